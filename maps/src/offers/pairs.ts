/** What is held by names of one's own (`metadata`, `attributes`) as rows of a form, and back. Pure. */

import type { Fault } from './form';

export interface Pair {
  readonly name: string;
  readonly value: string;
  /** What was held: no text perhaps, and so while it is not changed. */
  readonly was?: unknown;
}

const shown = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

export const pairsOf = (held: Readonly<Record<string, unknown>>): readonly Pair[] =>
  Object.entries(held).map(([name, value]) => ({ name, value: shown(value), was: value }));

const isBlank = ({ name, value }: Pair): boolean => name.trim() === '' && value.trim() === '';

export const heldBy = (pairs: readonly Pair[]): Record<string, unknown> =>
  Object.fromEntries(
    pairs
      .filter((pair) => !isBlank(pair))
      .map(({ name, value, was }) => [name.trim(), was !== undefined && shown(was) === value ? was : value.trim()]),
  );

/** A name that is missing, or stands there twice. */
export function pairFaults(pairs: readonly Pair[], pointer: string): readonly Fault[] {
  const names = pairs.filter((pair) => !isBlank(pair)).map(({ name }) => name.trim());
  const faults: Fault[] = [];
  if (names.includes('')) faults.push({ pointer, detail: 'each needs a name' });
  const twice = names.find((name, place) => name !== '' && names.indexOf(name) !== place);
  if (twice !== undefined) faults.push({ pointer, detail: `${twice} stands there twice` });
  return faults;
}
