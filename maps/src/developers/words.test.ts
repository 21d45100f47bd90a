import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { ApiKey, Delivery, Webhook } from '../api/shapes';
import { addressFault, curl, examples, health, inOrder, outcome, SCOPES, standing, took, within } from './words';

const described = JSON.parse(readFileSync(new URL('../../openapi.json', import.meta.url), 'utf8'));
const POINT = { lon: -104.99031, lat: 39.7 };

it('has words for every scope of the API', () => {
  const scopes: string[] = described.components.schemas.NewKey.properties.scopes.items.enum;
  expect(SCOPES.map(({ scope }) => scope).sort()).toEqual([...scopes].sort());
});

it.each([
  [{ revoked_at: null, expires_at: null }, 'Active'],
  [{ revoked_at: null, expires_at: '2026-03-01T12:00:01Z' }, 'Active'],
  [{ revoked_at: null, expires_at: '2026-03-01T12:00:00Z' }, 'Expired'],
  [{ revoked_at: '2026-01-01T00:00:00Z', expires_at: '2026-01-02T00:00:00Z' }, 'Revoked'],
] as const)('a key %o is %s', (key, word) => {
  expect(standing(key as unknown as ApiKey, new Date('2026-03-01T12:00:00Z'))).toBe(word);
});

it('lists keys that work first, the newest first', () => {
  const key = (created_at: string, revoked_at: string | null = null) => ({ created_at, revoked_at, expires_at: null });
  const [old, gone, young] = [key('2026-01-01'), key('2026-03-01', '2026-03-02'), key('2026-02-01')];
  expect(inOrder([old, gone, young], new Date())).toEqual([young, old, gone]);
});

it.each([
  [{ enabled: true, failures: 0, waiting: 0, disabled_because: null }, 'Working', null],
  [{ enabled: true, failures: 0, waiting: 1, disabled_because: null }, 'Working', '1 message waits.'],
  [
    { enabled: true, failures: 3, waiting: 2, disabled_because: null },
    'Failing',
    'The last 3 tries failed; 2 messages wait.',
  ],
  [{ enabled: false, failures: 3, waiting: 2, disabled_because: 'It answered 410.' }, 'Disabled', 'It answered 410.'],
])('a webhook %o: %s', (hook, word, means) => {
  expect(health(hook as Webhook)).toMatchObject({ word, means });
});

it.each([
  [{ status: 'queued', attempts: 0, last_try: null }, 'Waits'],
  [{ status: 'delivered', attempts: 1, last_try: { status: 204, error: null } }, 'Delivered, 1 try, answered 204'],
  [
    { status: 'queued', attempts: 2, last_try: { status: null, error: 'refused' } },
    'Will be tried again, 2 tries, refused',
  ],
  [{ status: 'failed', attempts: 9, last_try: { status: 500, error: null } }, 'Given up, 9 tries, answered 500'],
])('a delivery %o: %s', (delivery, said) => {
  expect(outcome(delivery as unknown as Delivery)).toBe(said);
});

it('says how long', () => {
  expect([3.24, 41.6, 1234].map(took)).toEqual(['3.2 ms', '42 ms', '1.2 s']);
});

describe('the requests to try', () => {
  it('are operations of the API, with parameters that it knows', () => {
    for (const { method, path } of examples(POINT, 'cus_1')) {
      const address = new URL(path, 'http://127.0.0.1');
      const { pathname } = address;
      const known = Object.keys(described.paths).filter((one) =>
        new RegExp(`^${one.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(pathname),
      );
      const operation = described.paths[known.includes(pathname) ? pathname : (known[0] ?? '')][method.toLowerCase()];
      const names = operation.parameters?.map((parameter: { name: string }) => parameter.name) ?? [];
      expect(names).toEqual(expect.arrayContaining([...address.searchParams.keys()]));
    }
  });

  it('are offered where the scopes of a key let them through', () => {
    const offered = (scopes: string[] | null) =>
      examples(POINT, 'cus_1')
        .filter((one) => within(one, scopes))
        .map(({ id }) => id);
    expect(offered(['offers:redeem'])).toEqual(['me', 'eligible']);
    expect(offered(null)).toHaveLength(6);
  });

  it('are lines that a shell understands as they are meant', () => {
    const one = { ...examples(POINT, 'cus_1')[5], body: { name: "Ada's $HOME `shop`" } } as Parameters<typeof curl>[0];
    const line = curl(one, 'http://127.0.0.1:8000').replace('curl', 'printf "%s\\n"');
    const said = execFileSync('bash', ['-c', line], { env: { KEY: 'gk_1' } })
      .toString()
      .split('\n');
    expect(said).toEqual([
      '-sS',
      '-X',
      'PUT',
      '-H',
      'Authorization: Bearer gk_1',
      '-H',
      'Content-Type: application/json',
      '-d',
      '{"name":"Ada\'s $HOME `shop`"}',
      'http://127.0.0.1:8000/v1/geofences/try/first',
      '',
    ]);
  });
});

it.each([
  ['', false],
  ['notaurl', false],
  ['ftp://127.0.0.1/', false],
  ['http://127.0.0.1:9/events', true],
])('%s may be an address: %s', (text, may) => {
  expect(addressFault(text) === null).toBe(may);
});
