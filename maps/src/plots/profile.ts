/** Profiles of segments against the average, feature by feature. Pure. */

/** The mean of a feature in a segment, beside that of all customers. */
export interface Mean {
  readonly label: number;
  readonly feature: string;
  readonly mean: number | null;
  readonly average: number | null;
}

/** A bar: how many doublings above (or halvings below) the average, at most `REACH` either way. */
export interface Bar {
  readonly label: number;
  readonly mean: number;
  readonly height: number;
}

export interface FeatureBars {
  readonly feature: string;
  readonly average: number;
  readonly bars: readonly Bar[];
  /** How much the segments differ in it: the standard deviation of the heights. */
  readonly spread: number;
}

/** Four times or a quarter of the average: what is beyond is drawn so. */
export const REACH = 2;

function height(mean: number, average: number): number {
  if (mean <= 0) return -REACH;
  return Math.max(-REACH, Math.min(REACH, Math.log2(mean / average)));
}

/** How far a mean is from the average, in doublings or halvings. */
export const apart = (mean: number, average: number): number => (average > 0 ? Math.abs(height(mean, average)) : 0);

/** Bars of each feature that has an average above zero, in which the segments differ most first. */
export function featureBars(rows: readonly Mean[], labels: readonly number[]): readonly FeatureBars[] {
  const features = [...new Set(rows.map(({ feature }) => feature))];
  return features
    .flatMap((feature): FeatureBars[] => {
      const own = rows.filter((row) => row.feature === feature);
      const average = own.find((row) => row.average !== null)?.average ?? null;
      if (average === null || average <= 0) return [];
      const bars = labels.flatMap((label): Bar[] => {
        const mean = own.find((row) => row.label === label)?.mean ?? null;
        return mean === null ? [] : [{ label, mean, height: height(mean, average) }];
      });
      const middle = bars.reduce((sum, bar) => sum + bar.height, 0) / Math.max(bars.length, 1);
      const variance = bars.reduce((sum, bar) => sum + (bar.height - middle) ** 2, 0) / Math.max(bars.length, 1);
      return bars.length === 0 ? [] : [{ feature, average, bars, spread: Math.sqrt(variance) }];
    })
    .toSorted((a, b) => b.spread - a.spread);
}

/** "3.2 ×" of the average, "a tenth": how many times. */
export function timesAverage(mean: number, average: number): string {
  const ratio = mean / average;
  if (ratio >= 9.95) return `${Math.round(ratio)} times`;
  return `${Number(ratio.toFixed(ratio < 0.1 ? 2 : 1))} times`;
}
