/** The routes of the API that the application calls, by name. */

import type { FilterField, Filters, Point } from '../state/model';
import { type Answer, get, Problem, patch, post, put, queryText, remove, start, upload, useCsrfToken } from './client';
import type {
  ApiKey,
  Area,
  Audience,
  Automation,
  Colleague,
  Delivery,
  Fence,
  GroupsPreview,
  Me,
  Offer,
  OneFence,
  Place,
  Product,
  RulePreview,
} from './shapes';

function known(me: Me): Me {
  useCsrfToken(me.csrf_token);
  return me;
}

/** The short forms of the filter language: values with commas; a field without values is left out. */
function asQuery(filters: Filters): { [Field in FilterField | 'filter']: string | null } {
  const listed = (values: readonly string[]) => (values.length > 0 ? values.join(',') : null);
  return {
    stage: listed(filters.stage),
    kind: listed(filters.kind),
    owner: listed(filters.owner),
    territory: listed(filters.territory),
    segment: listed(filters.segment),
    filter: filters.where,
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

/** What to offer next, by what goes together. */
export const nextOffers = (customer_id: string, signal: AbortSignal) =>
  get('/v1/customers/{customer_id}/next-offers', { path: { customer_id }, query: { limit: 3 }, signal });

export const interactionsOf = (customer_id: string, signal: AbortSignal) =>
  get('/v1/customers/{customer_id}/interactions', { path: { customer_id }, query: { limit: 5 }, signal });

export const tasksFor = (customer: string, signal: AbortSignal) =>
  get('/v1/tasks', { query: { customer, limit: 10 }, signal });

export const finishTask = (task_id: string) => start('/v1/tasks/{task_id}/done', { task_id });

export const reopenTask = (task_id: string) => start('/v1/tasks/{task_id}/reopen', { task_id });

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

export const area = (layer: string, version: number, area_id: string, signal: AbortSignal): Promise<Area> =>
  get('/v1/layers/{layer}/versions/{version}/areas/{area_id}', { path: { layer, version, area_id }, signal });

export const colleagues = (): Promise<readonly Colleague[]> =>
  all((cursor) => get('/v1/colleagues', { query: { limit: 500, cursor } }));

export const segmentations = () => get('/v1/segmentations');

export type NewSegmentation = Parameters<typeof post<'/v1/segmentations'>>[1];
export const createSegmentation = (made: NewSegmentation) => post('/v1/segmentations', made);

export const editSegmentation = (
  segmentation_id: string,
  version: number,
  edit: Parameters<typeof patch<'/v1/segmentations/{segmentation_id}'>>[3],
) => patch('/v1/segmentations/{segmentation_id}', { segmentation_id }, version, edit);

/** What groups would look like on a sample. */
export const previewGroups = async (parameters: object, signal: AbortSignal): Promise<GroupsPreview | null> =>
  (
    await post(
      '/v1/segmentations/preview',
      { method: 'groups', parameters: parameters as Record<string, unknown>, seed: SEED },
      { signal },
    )
  ).groups;

/** A rule in words, and how many pass it. */
export const previewRule = async (filter: object, signal: AbortSignal): Promise<RulePreview | null> =>
  (
    await post(
      '/v1/segmentations/preview',
      { method: 'rule', filter: filter as Record<string, unknown>, seed: SEED },
      { signal },
    )
  ).rule;

/** The seed of previews and runs: the same every time, so that the same data bring the same groups. */
const SEED = 1;

export const runSegmentation = (segmentation_id: string, cutoff: string | null) =>
  post(
    '/v1/segmentations/{segmentation_id}/runs',
    { seed: SEED, then_publish: false, ...(cutoff ? { cutoff } : {}) },
    { path: { segmentation_id } },
  );

export const runsOf = (segmentation_id: string, signal: AbortSignal) =>
  get('/v1/segmentations/{segmentation_id}/runs', { path: { segmentation_id }, query: { limit: 20 }, signal });

export const run = (segmentation_id: string, number: number, signal: AbortSignal) =>
  get('/v1/segmentations/{segmentation_id}/runs/{number}', { path: { segmentation_id, number }, signal });

export const cancelRun = (segmentation_id: string, number: number) =>
  start('/v1/segmentations/{segmentation_id}/runs/{number}/cancel', { segmentation_id, number });

export const publishRun = (segmentation_id: string, number: number) =>
  start('/v1/segmentations/{segmentation_id}/runs/{number}/publish', { segmentation_id, number });

export const activateSegmentation = (segmentation_id: string) =>
  start('/v1/segmentations/{segmentation_id}/activate', { segmentation_id });

export const revertSegmentation = (segmentation_id: string) =>
  start('/v1/segmentations/{segmentation_id}/revert', { segmentation_id });

export const movesOf = (segmentation_id: string, from_run: number, to_run: number, signal: AbortSignal) =>
  get('/v1/segmentations/{segmentation_id}/moves', { path: { segmentation_id }, query: { from_run, to_run }, signal });

export const segment = (segment_id: string, signal: AbortSignal) =>
  get('/v1/segments/{segment_id}', { path: { segment_id }, signal });

export const nameSegment = (segment_id: string, version: number, name: string) =>
  patch('/v1/segments/{segment_id}', { segment_id }, version, { name });

export const membersOf = (segment_id: string, cursor: string | null, signal: AbortSignal) =>
  get('/v1/segments/{segment_id}/members', { path: { segment_id }, query: { limit: 20, cursor }, signal });

export const countCustomers = (condition: object, signal: AbortSignal) =>
  get('/v1/customers/count', { query: { filter: JSON.stringify(condition) }, signal });

/** The address of the file of customers that pass a condition. */
export const customersFile = (condition: object): string =>
  `/v1/exports/customers.csv${queryText({ filter: JSON.stringify(condition) })}`;

export type OfferStatus = 'draft' | 'live' | 'ended';

export const offers = (status: OfferStatus | null, cursor: string | null, signal: AbortSignal) =>
  get('/v1/offers', { query: { status, limit: 50, cursor }, signal });

export const offer = (offer_id: string, signal: AbortSignal): Promise<Offer> =>
  get('/v1/offers/{offer_id}', { path: { offer_id }, signal });

export type OfferChange = Parameters<typeof patch<'/v1/offers/{offer_id}'>>[3];
export type NewOffer = Parameters<typeof post<'/v1/offers'>>[1];

export const createOffer = (made: NewOffer): Promise<Offer> => post('/v1/offers', made);

export const editOffer = (offer_id: string, version: number, change: OfferChange): Promise<Offer> =>
  patch('/v1/offers/{offer_id}', { offer_id }, version, change);

/** All that stands in the way of going live. */
export const checkOffer = (offer_id: string) => start('/v1/offers/{offer_id}/check', { offer_id });

export const setOfferLive = (offer_id: string, version: number): Promise<Offer> =>
  start('/v1/offers/{offer_id}/live', { offer_id }, version);

export const endOffer = (offer_id: string, version: number): Promise<Offer> =>
  start('/v1/offers/{offer_id}/end', { offer_id }, version);

export const discardDraft = (offer_id: string, version: number): Promise<void> =>
  remove('/v1/offers/{offer_id}', { offer_id }, version);

/** What a customer would see at a point, and why not the rest; nothing is remembered of it. */
export const eligible = (customer: string, { lon, lat }: Point, at: string | null, signal: AbortSignal) =>
  get('/v1/offers/eligible', {
    query: { customer, lon, lat, at, limit: 100, explain: true, record: false },
    signal,
  });

export const offerResults = (offer_id: string, by: string | null, signal: AbortSignal) =>
  get('/v1/offers/{offer_id}/results', { path: { offer_id }, query: { by }, signal });

export const products = (): Promise<readonly Product[]> =>
  all((cursor) => get('/v1/products', { query: { limit: 500, cursor } }));

/** So many fences are loaded at a time; others as the map shows where they are. */
export const MOST_FENCES = 2_000;
const FENCE_PAGE = 500;

export const fences = (signal: AbortSignal): Promise<readonly Fence[]> =>
  all((cursor) => get('/v1/geofences', { query: { limit: FENCE_PAGE, cursor }, signal }), MOST_FENCES / FENCE_PAGE);

/** Fences in a box, [west, south, east, north]. */
export const fencesIn = async (bbox: readonly number[], signal: AbortSignal): Promise<readonly Fence[]> =>
  (await get('/v1/geofences', { query: { limit: FENCE_PAGE, bbox: bbox.join(',') }, signal })).data;

type PutFence = Parameters<typeof put<'/v1/geofences/{tag}/{external_id}'>>[2];
/** The description calls GeoJSON and hours objects, of which the generated type holds nothing. */
export type FenceBody = Omit<PutFence, 'geometry' | 'hours'> & {
  readonly geometry?: object | null;
  readonly hours?: readonly object[] | null;
};
export const putFence = (tag: string, external_id: string, fence: FenceBody, version?: number): Promise<OneFence> =>
  put('/v1/geofences/{tag}/{external_id}', { tag, external_id }, fence as PutFence, version);

export const deleteFence = (tag: string, external_id: string, version: number): Promise<void> =>
  remove('/v1/geofences/{tag}/{external_id}', { tag, external_id }, version);

export interface FenceFile {
  readonly file: File;
  readonly tag: string;
  readonly recipe: {
    readonly columns: Readonly<Record<string, string>>;
    readonly metadata: readonly string[];
    readonly radius_m: number | null;
    readonly dwell_s: number | null;
  };
  readonly dryRun: boolean;
}

/** The file is looked into at once; its rows are the job's. */
export function importFences({ file, tag, recipe, dryRun }: FenceFile) {
  const form = new FormData();
  form.set('file', file);
  form.set('tag', tag);
  form.set('recipe', JSON.stringify(recipe));
  form.set('dry_run', String(dryRun));
  return upload('/v1/geofences/imports', form);
}

export type WalkBody = Parameters<typeof post<'/v1/geofences/walks'>>[1];
export const replayWalk = (walk: WalkBody, signal: AbortSignal) => post('/v1/geofences/walks', walk, { signal });

export const automations = (cursor: string | null, signal: AbortSignal) =>
  get('/v1/automations', { query: { limit: 50, cursor }, signal });

export const automation = (automation_id: string, signal: AbortSignal): Promise<Automation> =>
  get('/v1/automations/{automation_id}', { path: { automation_id }, signal });

export type NewAutomation = Parameters<typeof post<'/v1/automations'>>[1];
export const createAutomation = (made: NewAutomation): Promise<Automation> => post('/v1/automations', made);

export const editAutomation = (automation_id: string, version: number, change: NewAutomation): Promise<Automation> =>
  patch('/v1/automations/{automation_id}', { automation_id }, version, change);

export const deleteAutomation = (automation_id: string, version: number): Promise<void> =>
  remove('/v1/automations/{automation_id}', { automation_id }, version);

/** All that stands in the way of enabling it. */
export const checkAutomation = (automation_id: string) =>
  start('/v1/automations/{automation_id}/check', { automation_id });

export const previewAutomation = (automation_id: string) =>
  start('/v1/automations/{automation_id}/preview', { automation_id });

export const enableAutomation = (automation_id: string, version: number): Promise<Automation> =>
  start('/v1/automations/{automation_id}/enable', { automation_id }, version);

export const disableAutomation = (automation_id: string, version: number): Promise<Automation> =>
  start('/v1/automations/{automation_id}/disable', { automation_id }, version);

export type RunStatus = 'waiting' | 'done' | 'skipped' | 'failed';
export const automationRuns = (
  automation_id: string,
  status: RunStatus | null,
  cursor: string | null,
  signal: AbortSignal,
) =>
  get('/v1/automations/{automation_id}/runs', {
    path: { automation_id },
    query: { status, limit: 20, cursor },
    signal,
  });

export const audiences = (signal: AbortSignal): Promise<readonly Audience[]> =>
  all((cursor) => get('/v1/audiences', { query: { limit: 500, cursor }, signal }));

export const createAudience = (name: string): Promise<Audience> => post('/v1/audiences', { name });

/** Offers that have not ended, to choose from. */
export const offersToChoose = (signal: AbortSignal): Promise<readonly Offer[]> =>
  all((cursor) => get('/v1/offers', { query: { limit: 500, cursor }, signal }));

export interface Campaign {
  readonly id: string;
  /** What is of it: offers and automations by name. */
  readonly names: readonly string[];
}

/** The campaigns that offers and automations name. */
export async function campaigns(signal: AbortSignal): Promise<readonly Campaign[]> {
  const [offered, automated] = await Promise.all([
    offersToChoose(signal),
    all<Automation>((cursor) => get('/v1/automations', { query: { limit: 500, cursor }, signal })),
  ]);
  const found = new Map<string, string[]>();
  for (const { campaign_id, name } of [...offered, ...automated])
    if (campaign_id) found.set(campaign_id, [...(found.get(campaign_id) ?? []), name]);
  return [...found].map(([id, names]) => ({ id, names }));
}

export const keys = (signal: AbortSignal): Promise<readonly ApiKey[]> =>
  all((cursor) => get('/v1/keys', { query: { limit: 500, cursor }, signal }));

export async function key(key_id: string, signal: AbortSignal): Promise<ApiKey> {
  const found = (await keys(signal)).find(({ id }) => id === key_id);
  if (!found) throw new Problem(404, 'There is no such key', '');
  return found;
}

export type NewKey = Parameters<typeof post<'/v1/keys'>>[1];
export const createKey = (made: NewKey) => post('/v1/keys', made);

export const revokeKey = (key_id: string): Promise<void> => remove('/v1/keys/{key_id}', { key_id });

export const requestsOf = (key_id: string, cursor: string | null, signal: AbortSignal) =>
  get('/v1/keys/{key_id}/requests', { path: { key_id }, query: { limit: 20, cursor }, signal });

export const webhooks = (cursor: string | null, signal: AbortSignal) =>
  get('/v1/webhooks', { query: { limit: 50, cursor }, signal });

export const webhook = (webhook_id: string, signal: AbortSignal) =>
  get('/v1/webhooks/{webhook_id}', { path: { webhook_id }, signal });

export type NewWebhook = Parameters<typeof post<'/v1/webhooks'>>[1];
export const createWebhook = (made: NewWebhook) => post('/v1/webhooks', made);

export const enableWebhook = (webhook_id: string, version: number, enabled: boolean) =>
  patch('/v1/webhooks/{webhook_id}', { webhook_id }, version, { enabled });

export const deleteWebhook = (webhook_id: string, version: number): Promise<void> =>
  remove('/v1/webhooks/{webhook_id}', { webhook_id }, version);

export const changeSecret = (webhook_id: string) => start('/v1/webhooks/{webhook_id}/secret', { webhook_id });

export const testWebhook = (webhook_id: string) => start('/v1/webhooks/{webhook_id}/test', { webhook_id });

export type DeliveryStatus = Delivery['status'];

export const deliveries = (
  webhook_id: string,
  status: DeliveryStatus | null,
  cursor: string | null,
  signal: AbortSignal,
) =>
  get('/v1/webhooks/{webhook_id}/deliveries', { path: { webhook_id }, query: { status, limit: 20, cursor }, signal });

export const delivery = (webhook_id: string, delivery_id: string, signal: AbortSignal) =>
  get('/v1/webhooks/{webhook_id}/deliveries/{delivery_id}', { path: { webhook_id, delivery_id }, signal });

export const resend = (webhook_id: string, delivery_id: string) =>
  start('/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend', { webhook_id, delivery_id });

export const job = (job_id: string, signal: AbortSignal) => get('/v1/jobs/{job_id}', { path: { job_id }, signal });

export const customerTileJson = (): Promise<Answer<'/tiles/customers.json'>> => get('/tiles/customers.json');
