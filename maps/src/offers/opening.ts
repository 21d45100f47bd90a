/** Whether an offer is open at a moment, on the clock of its time zone, and when it opens next. Pure. */

import type { OfferVersion } from '../api/shapes';
import type { HoursRow } from './form';
import { momentOf, wallOf } from './zoned';

type Said = Pick<OfferVersion, 'hours' | 'closed_on' | 'time_zone' | 'ends_at'>;

export type Opening =
  | { readonly open: true }
  /** `opens` is null where it opens no more before its end. */
  | { readonly open: false; readonly opens: string | null };

const OPEN: Opening = { open: true };
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
const WHOLE_DAYS: readonly HoursRow[] = [{ days: [...DAYS], from: '00:00', to: '24:00' }];
const DAY_MS = 86_400_000;

/** By its hours and closed days alone; in a zone that the browser does not know it is taken for open. A span that ends
 * at or before its start goes on past midnight and belongs to the day on which it begins. */
export function openingAt({ hours, closed_on, time_zone, ends_at }: Said, now: Date): Opening {
  if (!hours && closed_on.length === 0) return OPEN;
  const zone = time_zone ?? 'UTC';
  const today = wallOf(now.toISOString(), zone)?.slice(0, 10);
  if (today === undefined) return OPEN;
  const dayAfter = (days: number) => new Date(Date.parse(today) + days * DAY_MS).toISOString().slice(0, 10);
  const at = (day: number, clock: string) => Date.parse(momentOf(`${dayAfter(day)}T${clock}`, zone) ?? '');
  // A week holds every span; each closed day can put one off.
  for (let day = -1; day <= 7 * (closed_on.length + 1); day += 1) {
    if (closed_on.includes(dayAfter(day))) continue;
    const week = DAYS[new Date(dayAfter(day)).getUTCDay()];
    const later: number[] = [];
    for (const { days, from, to } of (hours ?? WHOLE_DAYS) as readonly HoursRow[]) {
      if (!days.some((one) => one === week)) continue;
      const begin = at(day, from);
      const end = to === '24:00' ? at(day + 1, '00:00') : at(to <= from ? day + 1 : day, to);
      if (begin <= now.getTime() && now.getTime() < end) return OPEN;
      if (begin > now.getTime()) later.push(begin);
    }
    if (later.length === 0) continue;
    const opens = Math.min(...later);
    return { open: false, opens: ends_at && opens >= Date.parse(ends_at) ? null : new Date(opens).toISOString() };
  }
  return { open: false, opens: null };
}
