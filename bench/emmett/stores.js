// Emmett's stores, each with what checks them at the end.

import { getInMemoryEventStore } from '@event-driven-io/emmett';
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql';
import pg from 'pg';

import { streamOf } from './bank.js';

// What each commit has to wait for, as Rehydrate's do.
const DURABLE = ['fsync', 'synchronous_commit', 'full_page_writes'];

// `store`, and `stored`: how many events there are of some accounts. Without a URL it is in memory.
export const open = async (url) => (url === null ? inMemory() : await onPostgres(url));

const inMemory = () => {
  const store = getInMemoryEventStore();
  const stored = async (ids) => {
    let events = 0;
    for (const id of ids) events += (await store.readStream(streamOf(id))).events.length;
    return events;
  };
  return { store, stored, close: async () => {} };
};

const onPostgres = async (url) => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  for (const setting of DURABLE) {
    const { rows } = await client.query(`SHOW ${setting}`);
    if (rows[0][setting] !== 'on') throw new Error(`the server has ${setting} off`);
  }
  // Its own pool has ten connections. With as many as there are callers it is slower.
  const store = getPostgreSQLEventStore(url);
  await store.schema.migrate();
  const stored = async (ids) => {
    const count = 'SELECT count(*) AS events FROM emt_messages WHERE stream_id = ANY($1)';
    return Number((await client.query(count, [ids.map(streamOf)])).rows[0].events);
  };
  const close = async () => {
    await client.end();
    await store.close();
  };
  return { store, stored, close };
};
