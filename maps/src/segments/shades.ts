/** Scores that the map can be coloured by: where their shades begin, and how these are called. Pure. */

import type { Segmentation } from '../api/shapes';
import { count, counted, money } from '../format';
import { exactValue, featureName, isBeside } from './features';

export type Shades = Segmentation['shades'][string];

/** A score by which customers can be told apart on the map. */
export interface ScoreChoice {
  /** KEY.NAME, as the address and the filter language have it. */
  readonly id: string;
  readonly segmentation: Segmentation;
  readonly name: string;
  readonly shades: Shades;
}

/** The scores to choose from: of published runs that say where their shades begin, without what says how sure they are. */
export function scoreChoices(segmentations: readonly Segmentation[]): readonly ScoreChoice[] {
  return segmentations.flatMap((segmentation) =>
    segmentation.score_names.flatMap((name) => {
      const shades = segmentation.shades[name];
      return shades && !isBeside(name) ? [{ id: `${segmentation.key}.${name}`, segmentation, name, shades }] : [];
    }),
  );
}

/** The score KEY.NAME; null where there is none. */
export function scoreOf(id: string | null, segmentations: readonly Segmentation[]): ScoreChoice | null {
  const [key, name = ''] = id?.split('.') ?? [];
  const segmentation = segmentations.find((row) => row.key === key);
  const shades = segmentation?.shades[name];
  return id !== null && segmentation && shades ? { id, segmentation, name, shades } : null;
}

/** The condition that a shade is, as the filter language says it. */
export function shadeCondition(key: string, score: string, { cuts }: Shades, shade: number): object {
  const field = `scores.${key}.${score}`;
  const [low, high] = [cuts[shade - 1], cuts[shade]];
  if (low === undefined && high === undefined) return { field, op: 'exists', value: true };
  const ends = [
    ...(low === undefined ? [] : [{ field, op: '>=', value: low }]),
    ...(high === undefined ? [] : [{ field, op: '<', value: high }]),
  ];
  return ends.length === 1 ? (ends[0] as object) : { all: ends };
}

/** What each shade holds, the lowest first: "below 5 %", "5 % to 12 %", "41 % and more"; or its only value. */
export function shadeNames(score: string, { cuts, values, unit }: Shades): readonly string[] {
  const said = (value: number) => (unit ? money(value, unit).replace(/\.00$/, '') : exactValue(score, value));
  if (values.length > 0) return values.map(said);
  if (cuts.length === 0) return ['Any'];
  return [null, ...cuts].map((low, i) => {
    const high = cuts[i];
    if (low === null) return high === undefined ? '' : `below ${said(high)}`;
    return high === undefined ? `${said(low)} and more` : `${said(low)} to ${said(high)}`;
  });
}

/** What the legend of a score says below its rows. */
export function shadeWords({ by, customers, cuts }: Shades): string {
  if (by === 'value') return `${counted(customers, 'customer has', 'customers have')} this score.`;
  if (by === 'lowest') {
    return `Many of the ${count(customers)} customers who have this score have the lowest: that is a shade of its own.`;
  }
  return cuts.length === 4
    ? `About a fifth of the ${count(customers)} customers who have this score is in each shade.`
    : `${count(customers)} customers have this score, many of them the same: there are fewer shades than five.`;
}

export const scoreTitle = ({ name }: Pick<ScoreChoice, 'name'>): string => featureName(name);
