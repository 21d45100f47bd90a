/** Sales by month of one currency; decimal texts are added exactly. */

/** What was sold in a month (YYYY-MM, UTC), in one currency. */
export interface Month {
  readonly month: string;
  readonly currency: string;
  readonly amount: string;
  readonly count: number;
}

const SCALE = 4;

/** A decimal text as a whole number of ten-thousandths. */
function parts(text: string): bigint {
  const match = /^([+-]?)(\d+)(?:\.(\d+))?$/.exec(text.trim());
  if (!match) return 0n;
  const [, sign, whole = '0', fraction = ''] = match;
  const value = BigInt(whole + fraction.slice(0, SCALE).padEnd(SCALE, '0'));
  return sign === '-' ? -value : value;
}

/** The exact sum of decimal texts with up to four places, as a text. */
export function sum(amounts: readonly string[]): string {
  const total = amounts.reduce((so_far, text) => so_far + parts(text), 0n);
  const digits = (total < 0n ? -total : total).toString().padStart(SCALE + 1, '0');
  return `${total < 0n ? '-' : ''}${digits.slice(0, -SCALE)}.${digits.slice(-SCALE)}`;
}

/** The currency of most sales; null without any. */
export function mainCurrency(months: readonly Month[]): string | null {
  const counts = new Map<string, number>();
  for (const { currency, count } of months) counts.set(currency, (counts.get(currency) ?? 0) + count);
  let best: string | null = null;
  for (const [currency, n] of counts) if (best === null || n > (counts.get(best) ?? 0)) best = currency;
  return best;
}

function next(month: string): string {
  const [year = 0, number = 1] = month.split('-').map(Number);
  return number === 12 ? `${year + 1}-01` : `${year}-${String(number + 1).padStart(2, '0')}`;
}

/** Every month of a currency from the first to the last, those that are missing as zero. */
export function unbroken(months: readonly Month[], currency: string): readonly Month[] {
  const known = new Map(months.filter((m) => m.currency === currency).map((m) => [m.month, m]));
  const sorted = [...known.keys()].filter((month) => /^\d{4}-\d{2}$/.test(month)).sort();
  const [first, last] = [sorted[0], sorted.at(-1)];
  if (first === undefined || last === undefined) return [];
  const all: Month[] = [];
  for (let month = first; month <= last; month = next(month)) {
    all.push(known.get(month) ?? { month, currency, amount: '0', count: 0 });
  }
  return all;
}

/** Round numbers for an axis that covers [least, most] with zero in it: about `wanted` steps of 1, 2 or 5 × 10ⁿ. */
export function ticks(least: number, most: number, wanted = 3): readonly number[] {
  const [low, high] = [Math.min(0, least), Math.max(0, most)];
  if (high === low) return [0, 1];
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  const marks: number[] = [];
  for (let i = Math.floor(low / step); i <= Math.ceil(high / step - 1e-9); i++) marks.push(i * step);
  return marks;
}
