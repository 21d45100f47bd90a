/** Conditions of the filter language that the panel makes by itself, and short words for those on the map. Pure. */

import type { Segmentation } from '../api/shapes';
import { featureName } from './features';

export const inSegment = (key: string, segment: string): object => ({
  field: `segments.${key}`,
  op: '=',
  value: segment,
});

/** Customers with a score in a range; null where neither end is given. */
export function scoreBetween(key: string, score: string, low: number | null, high: number | null): object | null {
  const field = `scores.${key}.${score}`;
  if (low !== null && high !== null) return { field, op: 'between', value: [low, high] };
  if (low !== null) return { field, op: '>=', value: low };
  return high === null ? null : { field, op: '<=', value: high };
}

interface Leaf {
  readonly all?: unknown;
  readonly field?: unknown;
  readonly op?: unknown;
  readonly value?: unknown;
}

/** What a condition says, for the button that takes it away. */
export function conditionWords(json: string, segmentations: readonly Segmentation[]): string {
  let leaf: Leaf;
  try {
    leaf = JSON.parse(json) as Leaf;
  } catch {
    return 'A condition';
  }
  if (Array.isArray(leaf.all)) {
    // a shade of a score: from one figure to below another
    const [low, high] = leaf.all as Leaf[];
    const score = typeof low?.field === 'string' && low.field === high?.field ? low.field.split('.')[2] : undefined;
    const shade = leaf.all.length === 2 && low?.op === '>=' && high?.op === '<';
    return score && shade
      ? `${featureName(score)} from ${low.value} to below ${high.value}`
      : 'The conditions of a rule';
  }
  const [family, key, score] = typeof leaf.field === 'string' ? leaf.field.split('.') : [];
  const held = segmentations.find((row) => row.key === key);
  if (family === 'segments') {
    const name = held?.segments.find(({ id }) => id === leaf.value)?.name;
    return name ? `${name} (${held?.name})` : 'A segment';
  }
  if (family === 'scores' && score) {
    const { op, value } = leaf;
    if (op === 'exists') return `${featureName(score)} is known`;
    const range = Array.isArray(value)
      ? `from ${value[0]} to ${value[1]}`
      : `${op === '<=' ? 'at most' : op === '<' ? 'below' : 'at least'} ${value}`;
    return `${featureName(score)} ${range}`;
  }
  return 'The conditions of a rule';
}
