/** What a run found, as far as this page draws it. The API leaves the shape to the method; every part may be missing. */

import type { RunWithResults } from '../api/shapes';
import type { Measure } from '../plots/gain';
import type { CalibrationBin, LiftPart } from '../plots/validation';

export interface FoundSegment {
  readonly id: string;
  readonly label: number;
  readonly name: string;
  readonly sentence: string;
  readonly rule: string;
  /** null where the reader is not told: fewer than ten customers. */
  readonly size: number | null;
  readonly share: number | null;
}

/** The mean of a feature in a segment, beside that of all customers. */
export interface ProfileRow {
  readonly label: number;
  readonly feature: string;
  readonly n: number;
  readonly mean: number | null;
  readonly average: number | null;
}

/** A number of groups that was tried. */
export interface TriedNumber {
  readonly k: number;
  readonly stability: number | null;
  /** The same in data without groups. */
  readonly stability_null: number | null;
  readonly silhouette: number | null;
  readonly silhouette_null: number | null;
  readonly eligible: boolean;
}

export interface Choice {
  readonly k: number;
  readonly reason: string;
  readonly table: readonly TriedNumber[];
}

export interface Drift {
  readonly against_run: number;
  readonly moved: number;
  readonly verdict: string;
}

/** Whether place helps: the method with place beside the same without, on parts of the map that it had not seen. */
export interface PlaceGain {
  readonly sentence: string;
  readonly what?: string;
  readonly measures: readonly Measure[];
}

/** How well probabilities held in a time and in parts of the map that the method had not seen. */
export interface Evaluation {
  readonly how: string;
  readonly customers: number;
  readonly gain: { readonly sentence: string } | null;
  readonly error: { readonly sentence: string } | null;
  readonly calibration: readonly CalibrationBin[];
  readonly lift: readonly LiftPart[];
}

/** What a method goes by: how much worse it does without, with the interval. */
export interface Driver {
  readonly feature: string;
  readonly meaning: string;
  readonly loss: number;
}

export interface RegionRate {
  readonly sentence: string;
  /** Of all regions together. */
  readonly total: boolean;
}

export interface Results {
  readonly segments: readonly FoundSegment[];
  readonly profile: readonly ProfileRow[];
  readonly choice: Choice | null;
  readonly drift: Drift | null;
  readonly notes: readonly string[];
  readonly verdict: string;
  /** What hot spots are of, how many places were tested, and which share of those named may be false. */
  readonly about: string;
  readonly tested: number | null;
  readonly alpha: number | null;
  readonly currency: string | null;
  readonly total: { readonly worth: number; readonly low: number; readonly high: number } | null;
  readonly place: PlaceGain | null;
  readonly evaluation: Evaluation | null;
  readonly drivers: readonly Driver[];
  readonly churnRate: readonly RegionRate[];
  readonly dropped: readonly { readonly feature: string; readonly reason: string }[];
  readonly worth: readonly { readonly label: number; readonly worth: number }[];
}

const rows = <T>(value: unknown): readonly T[] => (Array.isArray(value) ? (value as T[]) : []);
const object = <T>(value: unknown): T | null =>
  value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as T) : null;
const number = (value: unknown): number | null => (typeof value === 'number' ? value : null);
const text = (value: unknown): string => (typeof value === 'string' ? value : '');

function placeOf(value: unknown): PlaceGain | null {
  const place = object<PlaceGain>(value);
  return place && text(place.sentence) !== '' ? { ...place, measures: rows(place.measures) } : null;
}

function evaluationOf(value: unknown): Evaluation | null {
  const told = object<Evaluation>(value);
  return (
    told && {
      ...told,
      how: text(told.how),
      gain: object(told.gain),
      error: object(told.error),
      calibration: rows(told.calibration),
      lift: rows(told.lift),
    }
  );
}

/** The parts of a run's results that are drawn. */
export function readResults({ results }: Pick<RunWithResults, 'results'>): Results {
  const choice = object<Choice>(results.choice);
  return {
    segments: rows<FoundSegment>(results.segments)
      .filter(({ size }) => size !== 0)
      .toSorted((a, b) => (b.size ?? 0) - (a.size ?? 0)),
    profile: rows<ProfileRow>(results.profile),
    choice: choice && rows(choice.table).length > 0 ? choice : null,
    drift: object<Drift>(results.drift),
    notes: rows<string>(results.notes),
    verdict: text(results.verdict),
    about: text(results.about),
    tested: number(results.tested),
    alpha: number(results.alpha),
    currency: text(results.currency) || null,
    total: object(results.total),
    place: placeOf(results.place),
    evaluation: evaluationOf(results.evaluation),
    drivers: rows<Driver>(results.drivers).filter(({ loss }) => loss > 0),
    churnRate: rows(results.churn_rate),
    dropped: rows(results.dropped),
    worth: rows(results.worth_by_segment),
  };
}
