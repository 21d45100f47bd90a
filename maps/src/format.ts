/** Numbers, distances, dates and money for people. */

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const day = new Intl.DateTimeFormat('en', { year: 'numeric', month: 'short', day: 'numeric', timeZone: 'UTC' });

export const count = (value: number): string => whole.format(value);

/** 1 customer, 2 customers. */
export const counted = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`;

/** Metres below one kilometre, then kilometres with as many digits as matter. */
export function distance(metres: number): string {
  if (metres < 995) return `${whole.format(metres < 100 ? Math.round(metres) : Math.round(metres / 10) * 10)} m`;
  const kilometres = metres / 1000;
  return `${kilometres < 9.95 ? kilometres.toFixed(1) : whole.format(kilometres)} km`;
}

const WINDS = ['north', 'north-east', 'east', 'south-east', 'south', 'south-west', 'west', 'north-west'] as const;

/** The wind that a bearing in degrees (clockwise from north) points to. */
export function wind(bearing_deg: number): string {
  const turn = ((bearing_deg % 360) + 360) % 360;
  return WINDS[Math.round(turn / 45) % 8] ?? 'north';
}

/** A decimal text or number of a currency; texts keep all digits until shown. */
export function money(amount: string | number, currency: string, short = false): string {
  const value = Number(amount);
  try {
    return new Intl.NumberFormat('en', {
      style: 'currency',
      currency,
      ...(short ? { notation: 'compact', maximumFractionDigits: 1 } : { maximumFractionDigits: 2 }),
    }).format(value);
  } catch {
    return `${short ? compact.format(value) : value.toFixed(2)} ${currency}`;
  }
}

export function date(text: string | null | undefined): string {
  if (!text) return '';
  const moment = new Date(text);
  return Number.isNaN(moment.getTime()) ? '' : day.format(moment);
}

/** How long ago, in the largest unit that fits. */
export function ago(text: string, now: Date = new Date()): string {
  const days = Math.floor((now.getTime() - new Date(text).getTime()) / 86_400_000);
  if (Number.isNaN(days)) return '';
  if (days < 0) return `on ${date(text)}`;
  if (days === 0) return 'today';
  if (days === 1) return 'yesterday';
  if (days < 60) return `${days} days ago`;
  if (days < 730) return `${Math.round(days / 30.4)} months ago`;
  return `${Math.floor(days / 365.25)} years ago`;
}

export const coordinates = (lon: number, lat: number): string => `${lon.toFixed(5)}, ${lat.toFixed(5)}`;

/** "north_west" → "North west", for words that the data brings. */
export function words(text: string): string {
  const plain = text.replaceAll('_', ' ').trim();
  return plain.charAt(0).toUpperCase() + plain.slice(1);
}
