/** Sales by month, from rows; decimal texts are added exactly. */

export interface Amount {
  readonly occurred_at: string;
  readonly amount: string;
  readonly currency: string;
}

export interface Month {
  /** YYYY-MM, UTC. */
  readonly month: string;
  readonly amount: number;
  readonly sales: number;
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

/** The currency of most rows; null without rows. */
export function mainCurrency(rows: readonly Amount[]): string | null {
  const counts = new Map<string, number>();
  for (const row of rows) counts.set(row.currency, (counts.get(row.currency) ?? 0) + 1);
  let best: string | null = null;
  for (const [currency, n] of counts) if (best === null || n > (counts.get(best) ?? 0)) best = currency;
  return best;
}

function next(month: string): string {
  const [year = 0, number = 1] = month.split('-').map(Number);
  return number === 12 ? `${year + 1}-01` : `${year}-${String(number + 1).padStart(2, '0')}`;
}

/** Every month from the first sale to the last, months without sales as zero; at most the last `limit`. */
export function months(rows: readonly Amount[], currency: string, limit = 36): readonly Month[] {
  const byMonth = new Map<string, string[]>();
  for (const row of rows) {
    if (row.currency !== currency) continue;
    const moment = new Date(row.occurred_at);
    if (Number.isNaN(moment.getTime())) continue;
    const month = moment.toISOString().slice(0, 7);
    const amounts = byMonth.get(month);
    if (amounts) amounts.push(row.amount);
    else byMonth.set(month, [row.amount]);
  }
  const known = [...byMonth.keys()].sort();
  const [first, last] = [known[0], known.at(-1)];
  if (first === undefined || last === undefined) return [];
  const all: Month[] = [];
  for (let month = first; month <= last; month = next(month)) {
    const amounts = byMonth.get(month) ?? [];
    all.push({ month, amount: Number(sum(amounts)), sales: amounts.length });
  }
  return all.slice(-limit);
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
