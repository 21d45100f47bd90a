/** The routes of the API that the application calls, by name. */

import type { Filters, Point } from '../state/model';
import { type Answer, get, post, remove, useCsrfToken } from './client';
import type { Area, Colleague, Me, Place } from './shapes';

function known(me: Me): Me {
  useCsrfToken(me.csrf_token);
  return me;
}

/** The short forms of the filter language: values with commas; a field without values is left out. */
function asQuery(filters: Filters): { [Field in keyof Filters]: string | null } {
  const listed = (values: readonly string[]) => (values.length > 0 ? values.join(',') : null);
  return {
    stage: listed(filters.stage),
    kind: listed(filters.kind),
    owner: listed(filters.owner),
    territory: listed(filters.territory),
  };
}

export const whoAmI = async (): Promise<Me> => known(await get('/v1/me'));

export const signIn = async (email: string, password: string): Promise<Me> =>
  known(await post('/v1/sessions', { email, password }));

export async function signOut(): Promise<void> {
  await remove('/v1/sessions/current');
  useCsrfToken(null);
}

export interface NearbyQuestion extends Point {
  /** null for the nearest, however far. */
  readonly radius_m: number | null;
  readonly limit: number;
  readonly cursor: string | null;
  readonly filters: Filters;
}

export const nearbyCustomers = ({ lon, lat, radius_m, limit, cursor, filters }: NearbyQuestion, signal: AbortSignal) =>
  get('/v1/customers/nearby', { query: { lon, lat, radius_m, limit, cursor, ...asQuery(filters) }, signal });

export const territoriesAt = ({ lon, lat }: Point, as_of: string | null, signal: AbortSignal) =>
  get('/v1/territories/at', { query: { lon, lat, as_of }, signal });

export const searchCustomers = (q: string, filters: Filters, cursor: string | null, signal: AbortSignal) =>
  get('/v1/customers', { query: { q, limit: 20, cursor, ...asQuery(filters) }, signal });

export const customer = (customer_id: string, signal: AbortSignal) =>
  get('/v1/customers/{customer_id}', { path: { customer_id }, signal });

export const territoryHistory = (customer_id: string, signal: AbortSignal) =>
  get('/v1/customers/{customer_id}/territories', { path: { customer_id }, signal });

/** Sums by month and currency of the last three years, from the first month with a sale. */
export const monthlySales = (customer_id: string, signal: AbortSignal) =>
  get('/v1/customers/{customer_id}/sales/monthly', { path: { customer_id }, query: { months: 36 }, signal });

export const interactionsOf = (customer_id: string, signal: AbortSignal) =>
  get('/v1/customers/{customer_id}/interactions', { path: { customer_id }, query: { limit: 5 }, signal });

interface List<T> {
  readonly data: readonly T[];
  readonly has_more: boolean;
  readonly next_cursor?: string | null;
}

/** All rows of a list, page after page, at most `pages` of them. */
async function all<T>(load: (cursor: string | null) => Promise<List<T>>, pages = 10): Promise<readonly T[]> {
  const rows: T[] = [];
  let cursor: string | null = null;
  for (let page = 0; page < pages; page++) {
    const answer: List<T> = await load(cursor);
    rows.push(...answer.data);
    cursor = answer.has_more ? (answer.next_cursor ?? null) : null;
    if (cursor === null) break;
  }
  return rows;
}

export const places = (): Promise<readonly Place[]> =>
  all((cursor) => get('/v1/places', { query: { limit: 500, cursor } }));

export const layers = (): Promise<Answer<'/v1/layers'>> => get('/v1/layers');

export const areas = (layer: string): Promise<readonly Area[]> =>
  all((cursor) => get('/v1/layers/{layer}/areas', { path: { layer }, query: { limit: 500, cursor } }));

export const colleagues = (): Promise<readonly Colleague[]> =>
  all((cursor) => get('/v1/colleagues', { query: { limit: 500, cursor } }));

export const customerTileJson = (): Promise<Answer<'/tiles/customers.json'>> => get('/tiles/customers.json');
