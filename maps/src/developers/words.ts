/** Keys, webhooks and requests in words; and the requests that can be tried, as text to copy. Pure. */

import type { ApiKey, Delivery, Webhook } from '../api/shapes';
import type { Point } from '../state/model';

/** What each scope lets through. */
export const SCOPES: readonly { scope: string; name: string; means: string }[] = [
  { scope: 'customers:read', name: 'Read customers', means: 'Customers, sites, sales, territories, tiles.' },
  { scope: 'locations:exact', name: 'Exact places', means: 'Without it every point is snapped to a grid of 500 m.' },
  {
    scope: 'contacts',
    name: 'Contact details',
    means: 'Names, e-mail addresses, phones, as far as the user sees them.',
  },
  { scope: 'customers:write', name: 'Write customers', means: 'Customers, sales, interactions; reading them too.' },
  { scope: 'offers:redeem', name: 'Offers', means: 'Ask which offers hold, redeem them, take that back.' },
  { scope: 'positions:write', name: 'Send positions', means: 'Of customers who allow it; and ask for fences near.' },
  { scope: 'geofences:write', name: 'Write geofences', means: 'Put and delete them, where the user’s role may.' },
  { scope: 'imports', name: 'Imports', means: 'Import files and take imports back.' },
];

export const scopeName = (scope: string): string => SCOPES.find((one) => one.scope === scope)?.name ?? scope;

/** Whether a key opens anything now. */
export function standing(key: Pick<ApiKey, 'revoked_at' | 'expires_at'>, now: Date): 'Active' | 'Revoked' | 'Expired' {
  if (key.revoked_at) return 'Revoked';
  return key.expires_at && new Date(key.expires_at) <= now ? 'Expired' : 'Active';
}

/** Keys that open something first, the newest first. */
export function inOrder<Key extends Pick<ApiKey, 'created_at' | 'revoked_at' | 'expires_at'>>(
  keys: readonly Key[],
  now: Date,
): readonly Key[] {
  const rank = (key: Key) => (standing(key, now) === 'Active' ? 0 : 1);
  return [...keys].sort((a, b) => rank(a) - rank(b) || b.created_at.localeCompare(a.created_at));
}

/** The events that a webhook can be told; none chosen is all of them. */
export const EVENTS: readonly { type: string; name: string }[] = [
  { type: 'geofence.entered', name: 'A customer entered a fence' },
  { type: 'geofence.dwelled', name: 'A customer stayed in a fence' },
  { type: 'geofence.exited', name: 'A customer left a fence' },
];

/** How a webhook does, in a word and a sentence. */
export function health(hook: Pick<Webhook, 'enabled' | 'disabled_because' | 'failures' | 'waiting'>): {
  word: string;
  good: boolean;
  means: string | null;
} {
  if (!hook.enabled) return { word: 'Disabled', good: false, means: hook.disabled_because };
  const waiting = hook.waiting === 1 ? '1 message waits' : `${hook.waiting} messages wait`;
  if (hook.failures > 0) {
    const tries = hook.failures === 1 ? 'The last try failed' : `The last ${hook.failures} tries failed`;
    return { word: 'Failing', good: false, means: `${tries}; ${waiting}.` };
  }
  return { word: 'Working', good: true, means: hook.waiting > 0 ? `${waiting}.` : null };
}

/** What a receiver answered, or why nothing came of the try. */
export const answered = ({
  status,
  error,
}: {
  readonly status: number | null;
  readonly error: string | null;
}): string => (status === null ? (error ?? 'no answer') : `answered ${status}`);

/** Why a text is no address to send to; null where it may be one. */
export function addressFault(text: string): string | null {
  if (text === '') return 'an address is needed: where your server listens';
  try {
    const { protocol, hostname } = new URL(text);
    if (/^https?:$/.test(protocol) && hostname !== '') return null;
  } catch {
    // Not an address at all.
  }
  return 'this is no whole address: it begins with “https:” and names your server';
}

/** What became of a delivery. */
export function outcome({ status, attempts, last_try }: Pick<Delivery, 'status' | 'attempts' | 'last_try'>): string {
  const tries = attempts === 1 ? '1 try' : `${attempts} tries`;
  const answer = last_try && answered(last_try);
  const word = { delivered: 'Delivered', failed: 'Given up', queued: attempts > 0 ? 'Will be tried again' : 'Waits' }[
    status
  ];
  return [word, attempts > 0 ? tries : null, answer].filter(Boolean).join(', ');
}

/** Milliseconds for people. */
export const took = (ms: number): string =>
  ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;

export interface Example {
  readonly id: string;
  readonly name: string;
  readonly method: 'GET' | 'PUT' | 'POST';
  readonly path: string;
  readonly body: object | null;
  /** One of these scopes is needed; none: any key will do. */
  readonly scopes: readonly string[];
  /** What it changes; null where it only asks. */
  readonly changes: string | null;
}

/** Requests to try, around a point. */
export function examples({ lon, lat }: Point, customer: string): readonly Example[] {
  const x = lon.toFixed(4);
  const y = lat.toFixed(4);
  const fences = ['customers:read', 'positions:write', 'geofences:write'];
  const asks = { method: 'GET', body: null, changes: null } as const;
  return [
    { ...asks, id: 'me', name: 'Who am I?', path: '/v1/me', scopes: [] },
    {
      ...asks,
      id: 'nearby',
      name: 'Customers near a point',
      path: `/v1/customers/nearby?lon=${x}&lat=${y}&limit=3`,
      scopes: ['customers:read'],
    },
    {
      ...asks,
      id: 'territory',
      name: 'Whose territory is a point?',
      path: `/v1/territories/at?lon=${x}&lat=${y}`,
      scopes: ['customers:read'],
    },
    {
      ...asks,
      id: 'eligible',
      name: 'Offers that hold here and now',
      path: `/v1/offers/eligible?customer=${customer}&lon=${x}&lat=${y}&explain=true&record=false`,
      scopes: ['offers:redeem'],
    },
    {
      ...asks,
      id: 'fences',
      name: 'The nearest fences to watch',
      path: `/v1/geofences/nearest?lon=${x}&lat=${y}&limit=20`,
      scopes: fences,
    },
    {
      id: 'fence',
      name: 'Put a fence',
      method: 'PUT',
      path: '/v1/geofences/try/first',
      body: { center: { lon: Number(x), lat: Number(y) }, radius_m: 150, name: 'First try', dwell_s: 300 },
      scopes: ['geofences:write'],
      changes: 'Puts a fence of 150 m in the middle of the map; run again, it is the same fence.',
    },
  ];
}

/** Whether a key of these scopes gets more than 403; of null nothing is known. */
export const within = ({ scopes }: Example, own: readonly string[] | null): boolean =>
  own === null || scopes.length === 0 || scopes.some((scope) => own.includes(scope));

const shell = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** A request as a line for a terminal; the secret stands in the variable KEY. */
export function curl({ method, path, body }: Example, host: string): string {
  const parts = ['curl -sS', ...(method === 'GET' ? [] : [`-X ${method}`]), '-H "Authorization: Bearer $KEY"'];
  if (body) parts.push("-H 'Content-Type: application/json'", `-d ${shell(JSON.stringify(body))}`);
  return [...parts, shell(host + path)].join(' ');
}

const clock = new Intl.DateTimeFormat('en', {
  month: 'short',
  day: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});

/** A moment by the clock of this device, to the second. */
export const moment = (at: string): string => clock.format(new Date(at));
