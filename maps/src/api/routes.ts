/** The routes of the API that the application calls, by name. */

import type { Filters, Point } from '../state/model';
import { get, post, type Query, request, useCsrfToken } from './client';
import type {
  Area,
  Assignment,
  Colleague,
  Customer,
  CustomerRow,
  Interaction,
  LayerInfo,
  List,
  Me,
  Month,
  NearbyCustomer,
  Place,
  TileJson,
} from './shapes';

function known(me: Me): Me {
  useCsrfToken(me.csrf_token);
  return me;
}

const asQuery = (filters: Filters): Query => ({ ...filters });

export const whoAmI = async (signal?: AbortSignal): Promise<Me> =>
  known(await get<Me>('/v1/me', signal ? { signal } : {}));

export async function signIn(email: string, password: string): Promise<Me> {
  return known(await post<Me>('/v1/sessions', { body: { email, password } }));
}

export async function signOut(): Promise<void> {
  await request<void>('DELETE', '/v1/sessions/current');
  useCsrfToken(null);
}

export interface NearbyQuestion extends Point {
  readonly radius_m: number;
  readonly limit: number;
  readonly cursor: string | null;
  readonly filters: Filters;
}

export const nearbyCustomers = (ask: NearbyQuestion, signal: AbortSignal): Promise<List<NearbyCustomer>> =>
  get('/v1/customers/nearby', {
    query: {
      lon: ask.lon,
      lat: ask.lat,
      radius_m: ask.radius_m,
      limit: ask.limit,
      cursor: ask.cursor,
      ...asQuery(ask.filters),
    },
    signal,
  });

export const territoriesAt = (point: Point, as_of: string | null, signal: AbortSignal): Promise<List<Assignment>> =>
  get('/v1/territories/at', { query: { lon: point.lon, lat: point.lat, as_of }, signal });

export const searchCustomers = (
  q: string,
  filters: Filters,
  cursor: string | null,
  signal: AbortSignal,
): Promise<List<CustomerRow>> => get('/v1/customers', { query: { q, limit: 20, cursor, ...asQuery(filters) }, signal });

export const customer = (id: string, signal: AbortSignal): Promise<Customer> => get(`/v1/customers/${id}`, { signal });

export const territoryHistory = (id: string, signal: AbortSignal): Promise<List<Assignment>> =>
  get(`/v1/customers/${id}/territories`, { signal });

/** Sums by month and currency of the last three years, from the first month with a sale. */
export const monthlySales = (id: string, signal: AbortSignal): Promise<{ data: readonly Month[] }> =>
  get(`/v1/customers/${id}/sales/monthly`, { query: { months: 36 }, signal });

export const interactionsOf = (id: string, signal: AbortSignal): Promise<List<Interaction>> =>
  get(`/v1/customers/${id}/interactions`, { query: { limit: 5 }, signal });

/** All rows of a list, page after page, at most `pages` of them. */
export async function all<T>(load: (cursor: string | null) => Promise<List<T>>, pages = 10): Promise<readonly T[]> {
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

export const places = (signal: AbortSignal): Promise<readonly Place[]> =>
  all((cursor) => get<List<Place>>('/v1/places', { query: { limit: 500, cursor }, signal }));

export const layers = (signal: AbortSignal): Promise<List<LayerInfo>> => get('/v1/layers', { signal });

export const areas = (layer: string, signal: AbortSignal): Promise<readonly Area[]> =>
  all((cursor) => get<List<Area>>(`/v1/layers/${layer}/areas`, { query: { limit: 500, cursor }, signal }));

export const colleagues = (signal: AbortSignal): Promise<readonly Colleague[]> =>
  all((cursor) => get<List<Colleague>>('/v1/colleagues', { query: { limit: 500, cursor }, signal }));

export const customerTileJson = (signal: AbortSignal): Promise<TileJson> => get('/tiles/customers.json', { signal });
