/** What the panel for developers shares: when lists are asked for anew, and the secrets that were shown just now. */

import { effect, signal } from '@preact/signals';
import { sheet } from '../state/screen';
import { me } from '../state/session';
import { show } from '../state/store';
import type { Example } from './words';

/** Raised after something was written. */
export const stamp = signal(0);
export const written = (): void => {
  stamp.value += 1;
};

/** Secrets that the server has shown on this page, by the id of their key or webhook. They leave with the page, and
 * with who was signed in: they are in no address and no storage. */
export const secrets = signal<Readonly<Record<string, string>>>({});
export function holdSecret(id: string, secret: string): void {
  secrets.value = { ...secrets.value, [id]: secret };
}

export function open(tool: string | null): void {
  if (sheet.value === 'peek') sheet.value = 'half';
  show({ tool });
}

/** The key that requests are tried with. */
export interface Trying {
  readonly token: string;
  /** What is known of it: its name and scopes, where it was opened from its own page. */
  readonly name: string | null;
  readonly scopes: readonly string[] | null;
}
const NONE: Trying = { token: '', name: null, scopes: null };
export const trying = signal(NONE);

// Who signs in next on this page finds none of them.
effect(() => {
  if (me.value !== null) return;
  secrets.value = {};
  trying.value = NONE;
});

export interface Ran {
  readonly status: number;
  readonly took_ms: number;
  readonly requestId: string | null;
  readonly text: string;
}

const LONGEST = 20_000;

/** Runs a request as a program with this key would: without the session of who is signed in. */
export async function run(example: Example, token: string): Promise<Ran> {
  const began = performance.now();
  const answer = await fetch(example.path, {
    method: example.method,
    credentials: 'omit',
    headers: {
      Authorization: `Bearer ${token}`,
      ...(example.body ? { 'Content-Type': 'application/json' } : {}),
    },
    ...(example.body ? { body: JSON.stringify(example.body) } : {}),
  });
  let text = await answer.text();
  const took_ms = performance.now() - began;
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Not JSON: shown as it came.
  }
  if (text.length > LONGEST) text = `${text.slice(0, LONGEST)}\n… ${text.length - LONGEST} more characters`;
  return { status: answer.status, took_ms, requestId: answer.headers.get('X-Request-Id'), text };
}
