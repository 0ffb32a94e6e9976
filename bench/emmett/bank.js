// The domain of every row, as an application of Emmett has it: accounts that refuse overdrafts.

import { CommandHandler, IllegalStateError } from '@event-driven-io/emmett';

export const deposit = (amount) => ({ type: 'Deposit', data: { amount } });
export const withdraw = (amount) => ({ type: 'Withdraw', data: { amount } });

// Deposits 1 in that many events: what is there before the clock runs.
export const fill = (events) => ({ type: 'Fill', data: { events } });

export const deposited = (amount) => ({ type: 'Deposited', data: { amount } });
export const withdrawn = (amount) => ({ type: 'Withdrawn', data: { amount } });

export const initialState = () => ({ balance: 0, changes: 0 });

export const decide = ({ type, data }, account) => {
  switch (type) {
    case 'Deposit':
      return deposited(data.amount);
    case 'Withdraw':
      if (data.amount > account.balance)
        throw new IllegalStateError(`${account.balance} are there, and not ${data.amount}`);
      return withdrawn(data.amount);
    case 'Fill':
      return Array.from({ length: data.events }, () => deposited(1));
    default:
      throw new IllegalStateError(`there is no command ${type}`);
  }
};

export const evolve = (account, { type, data }) => {
  switch (type) {
    case 'Deposited':
      return { balance: account.balance + data.amount, changes: account.changes + 1 };
    case 'Withdrawn':
      return { balance: account.balance - data.amount, changes: account.changes + 1 };
    default:
      return account;
  }
};

export const streamOf = (id) => `bank_account-${id}`;

const handle = CommandHandler({ evolve, initialState, mapToStreamId: streamOf });

// Reads the account's events, decides, and appends under the version that was read.
export const dispatch = (store, id, command) => handle(store, id, (account) => decide(command, account));
