// One measurement of Emmett: `node --expose-gc measure.js JSON`. Its sample goes to stdout, as one line of JSON.

import { readFileSync } from 'node:fs';

import { deposit, deposited, dispatch, evolve, fill, initialState, streamOf, withdraw } from './bank.js';
import { open } from './stores.js';

// Events in one append, before the clock runs.
const APPEND = 1_000;
// Before the clock runs, so that V8 has compiled what is measured: as a part of the seconds of the measurement.
const WARM_UP = 0.2;
const AMOUNT = 10;

const now = () => performance.now() / 1_000;

const caller = async (store, ids, until) => {
  let answered = 0;
  for (;;) {
    for (const id of ids) {
      const first = await dispatch(store, id, deposit(AMOUNT));
      const second = await dispatch(store, id, withdraw(1));
      answered += first.newEvents.length + second.newEvents.length;
      if (now() >= until) return answered;
    }
  }
};

const sharedAmong = (callers, ids) =>
  Array.from({ length: Math.min(callers, ids.length) }, (_, number) =>
    ids.filter((_, index) => index % callers === number),
  );

// Each caller has accounts of its own.
const callAll = async (store, ids, callers, seconds) => {
  const until = now() + seconds;
  const answered = await Promise.all(sharedAmong(callers, ids).map((share) => caller(store, share, until)));
  return answered.reduce((sum, count) => sum + count, 0);
};

const filled = async (store, name, { accounts, events, callers }) => {
  const ids = Array.from({ length: accounts }, (_, number) => `${name}-${number}`);
  const fillAll = async (share) => {
    for (const id of share) await dispatch(store, id, fill(events));
  };
  await Promise.all(sharedAmong(callers, ids).map(fillAll));
  return ids;
};

// Commands a second: each reads the events of its account, and stores one.
const dispatching = async (asked) => {
  const { url, callers, accounts, events, seconds } = asked;
  // In memory another store, because each append there looks at all streams of its store.
  const warming = await open(url);
  const others = await filled(warming.store, 'other', { accounts: Math.min(accounts, callers), events, callers });
  await callAll(warming.store, others, callers, seconds * WARM_UP);
  const { store, stored, close } = url === null ? await open(url) : warming;
  const ids = await filled(store, 'account', asked);
  gc();
  const began = now();
  const commands = await callAll(store, ids, callers, seconds);
  const elapsed = now() - began;
  const found = await stored(ids);
  const expected = accounts * events + commands;
  if (found !== expected) throw new Error(`the store holds ${found} events and must hold ${expected}`);
  await close();
  return { value: commands / elapsed, facts: { commands, seconds: elapsed, stored: found } };
};

// Events a second into a state: `aggregateStream`, of one stream after the other.
const rehydrating = async ({ url, streams, length, seconds }) => {
  const { store, close } = await open(url);
  const names = Array.from({ length: streams }, (_, number) => streamOf(`account-${number}`));
  for (const name of names)
    for (let version = 0; version < length; version += APPEND)
      await store.appendToStream(
        name,
        Array.from({ length: Math.min(APPEND, length - version) }, () => deposited(AMOUNT)),
      );
  const aggregateAll = async () => {
    let elapsed = 0;
    for (const name of names) {
      const began = now();
      const { state } = await store.aggregateStream(name, { evolve, initialState });
      elapsed += now() - began;
      if (state.changes !== length || state.balance !== AMOUNT * length)
        throw new Error(`${JSON.stringify(state)} from ${length} events`);
    }
    return elapsed;
  };
  for (const until = now() + seconds * WARM_UP; now() < until; ) await aggregateAll();
  gc();
  let states = 0;
  let elapsed = 0;
  while (elapsed < seconds) {
    elapsed += await aggregateAll();
    states += names.length;
  }
  await close();
  return { value: (states * length) / elapsed, facts: { events: states * length, states, seconds: elapsed } };
};

const versionOf = (name) =>
  JSON.parse(readFileSync(new URL(`./node_modules/${name}/package.json`, import.meta.url))).version;

const main = async () => {
  // Who started it holds stdin open: when that process has ended, however it did, nobody wants the sample.
  process.stdin.on('end', () => process.exit(1)).resume();
  const { what, ...asked } = JSON.parse(process.argv[2]);
  const { value, facts } = await { dispatching, rehydrating }[what](asked);
  const { user, system } = process.cpuUsage();
  const about = {
    cpu: (user + system) / 1e6 / process.uptime(),
    Emmett: versionOf('@event-driven-io/emmett'),
    'Node.js': process.versions.node,
  };
  console.log(JSON.stringify({ value, facts: { ...facts, ...about } }));
  process.stdin.destroy();
};

await main();
