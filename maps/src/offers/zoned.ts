/** Times on the clock of a time zone, as fields of a form have them ("2026-03-01T08:00"), and as moments. Pure. */

/** What the clock of a zone shows at a moment; null where the browser does not know the zone. */
export function wallOf(moment: string, zone: string): string | null {
  let parts: Intl.DateTimeFormatPart[];
  try {
    parts = new Intl.DateTimeFormat('en-CA', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
    }).formatToParts(new Date(moment));
  } catch {
    return null;
  }
  const part = (type: string) => parts.find((one) => one.type === type)?.value ?? '';
  return `${part('year')}-${part('month')}-${part('day')}T${part('hour')}:${part('minute')}`;
}

const MINUTE = 60_000;

/** The moment, as ISO text, at which the clock of a zone shows this; of two the first; a time that the clock skips is
 * taken as long after as before it. Null for what is no time, or an unknown zone. */
export function momentOf(wall: string, zone: string): string | null {
  const naive = Date.parse(`${wall}:00Z`);
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}$/.test(wall) || Number.isNaN(naive)) return null;
  const aheadAt = (at: number): number | null => {
    const shown = wallOf(new Date(at).toISOString(), zone);
    return shown === null ? null : Date.parse(`${shown}:00Z`) - at;
  };
  // The zone's distance from UTC a day before and after holds all that it can be in between.
  const offsets = [naive - 1440 * MINUTE, naive + 1440 * MINUTE].map(aheadAt);
  const [before, after] = offsets;
  if (before === null || after === null || before === undefined || after === undefined) return null;
  const first = naive - Math.max(before, after);
  const second = naive - Math.min(before, after);
  const fits = (at: number) => aheadAt(at) === naive - at;
  const at = fits(first) ? first : fits(second) ? second : naive - before;
  return new Date(at).toISOString().replace('.000Z', 'Z');
}

/** The zones that this browser knows. */
export function knownZones(): readonly string[] {
  const listed = Intl.supportedValuesOf('timeZone');
  return listed.includes('UTC') ? listed : [...listed, 'UTC'];
}
