/** How much better or worse a method does, with what it rests on. Pure. */

/** A measure of error with and without something, its gain (without less with) and the interval of the gain. */
export interface Measure {
  readonly name: string;
  readonly with: number;
  readonly without: number;
  readonly gain: number;
  readonly low: number;
  readonly high: number;
}

/** The gain in shares of the error without: from `low` to `high`, above 0 better. */
export interface Share {
  readonly name: string;
  readonly gain: number;
  readonly low: number;
  readonly high: number;
}

/** Gains as shares, those only that can be told so. */
export function shares(measures: readonly Measure[]): readonly Share[] {
  return measures.flatMap(({ name, gain, low, high, without }) =>
    without > 0 && [gain, low, high].every(Number.isFinite)
      ? [{ name, gain: gain / without, low: low / without, high: high / without }]
      : [],
  );
}

/** The reach of an axis around 0 that holds all intervals: 1, 2 or 5 times a power of ten. */
export function reachOf(rows: readonly Share[]): number {
  const most = Math.max(0.01, ...rows.flatMap(({ low, high }) => [Math.abs(low), Math.abs(high)]));
  const power = 10 ** Math.floor(Math.log10(most));
  return ([1, 2, 5, 10].find((factor) => factor * power >= most * 0.999) ?? 10) * power;
}

/** "+13 %", "−0.1 %". */
export function signedPercent(share: number): string {
  const percent = share * 100;
  const digits = Math.abs(percent) < 1 ? 1 : 0;
  const text = Math.abs(percent).toFixed(digits);
  return `${Number(text) === 0 ? '' : percent > 0 ? '+' : '−'}${text} %`;
}
