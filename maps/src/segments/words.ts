/** How methods, states and phases of segmentations are called for people who are not statisticians. Pure. */

import type { Run, Segmentation } from '../api/shapes';
import { words } from '../format';

export interface MethodWords {
  readonly name: string;
  /** What it answers, in a sentence. */
  readonly what: string;
}

const METHODS: Readonly<Record<string, MethodWords>> = {
  rfm: {
    name: 'Recency, frequency, money',
    what: 'Who bought lately, often and for much: named segments such as Champions, Loyal and At risk.',
  },
  groups: {
    name: 'Groups by behaviour and place',
    what: 'Finds customers who buy alike and live alike. One dial says what counts more.',
  },
  value: {
    name: 'Expected worth',
    what: 'What each customer is likely to buy in the time to come, and the few who make half of it.',
  },
  churn: {
    name: 'Likely to leave',
    what: 'How likely each customer is to stop buying, and what speaks for it.',
  },
  hotspots: {
    name: 'Hot and cold spots',
    what: 'Where on the map customers spend clearly more or clearly less than chance would have it.',
  },
  rule: {
    name: 'A rule of your own',
    what: 'Conditions that you put together, such as big spenders within 5 km of a shop.',
  },
};

/** A method that this page has no words for is called by its own name. */
export function methodWords(method: string): MethodWords {
  return METHODS[method] ?? { name: words(method), what: '' };
}

export const METHOD_NAMES: readonly string[] = Object.keys(METHODS);

/** Where a segmentation stands, in a word and a sentence. */
export function standing(row: Pick<Segmentation, 'is_active' | 'current_run'>): { word: string; means: string } {
  if (row.is_active) return { word: 'On the map', means: 'Everybody can colour the map by it and filter by it.' };
  if (row.current_run !== null) return { word: 'Published', means: 'Everybody can filter by it.' };
  return { word: 'Not published', means: 'Nobody sees it outside of this panel yet.' };
}

const STATUS: Readonly<Record<string, string>> = {
  queued: 'Waiting for its turn',
  running: 'At work',
  done: 'Done',
  failed: 'Failed',
  cancelled: 'Cancelled',
};

export const statusOf = (run: Pick<Run, 'status'>): string => STATUS[run.status] ?? words(run.status);

export const isGoing = (run: Pick<Run, 'status'>): boolean => run.status === 'queued' || run.status === 'running';

export interface Progress {
  readonly phase: string;
  readonly done: number;
  /** null where that is not known. */
  readonly total: number | null;
}

/** How far a run is. */
export function progressOf(run: Pick<Run, 'status' | 'progress'>): Progress {
  const { phase, done, total } = run.progress;
  return {
    phase: run.status === 'queued' || typeof phase !== 'string' ? statusOf(run) : words(phase),
    done: typeof done === 'number' ? done : 0,
    total: typeof total === 'number' && total > 0 ? total : null,
  };
}

/** A key for a name that none of the others has: lower case, words joined by hyphens. */
export function keyFor(name: string, taken: readonly string[]): string {
  const plain = name
    .normalize('NFKD')
    .replace(/[\u0300-\u036f]/g, '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 50);
  const base = plain || 'segmentation';
  const used = new Set(taken);
  if (!used.has(base)) return base;
  let number = 2;
  while (used.has(`${base}-${number}`)) number += 1;
  return `${base}-${number}`;
}

/** Where the dial stands, in words. */
export function dialWords(place: number): string {
  if (place <= 0) return 'Behaviour alone';
  if (place >= 1) return 'Place alone';
  const share = `${Math.round(place * 100)} % place`;
  if (place < 0.4) return `Mostly behaviour, ${share}`;
  return place > 0.6 ? `Mostly place, ${share}` : `Both alike, ${share}`;
}
