/** The state as the query of the page's address, and back. Unknown and impossible values are left out. */

import {
  COLOUR_KEYS,
  FILTER_FIELDS,
  type FilterField,
  type Filters,
  isPoint,
  LAYERS,
  type Near,
  PANELS,
  type Point,
  RADII_M,
  START,
  type State,
  type View,
} from './model';

const ID = /^[a-z]{3}_[A-Za-z0-9]+$/;
const SCORE = /^[A-Za-z0-9_-]{1,60}\.[a-z][a-z0-9_]{0,59}$/;
const WORD = /^[a-z_]{1,40}$/;

function oneOf<T extends string>(values: readonly T[], text: string | null): T | null {
  return values.find((value) => value === text) ?? null;
}

function listOf(text: string | null, accepts: (value: string) => boolean): string[] {
  if (!text) return [];
  return [...new Set(text.split(',').filter(accepts))].sort();
}

function numbers(text: string | null): number[] {
  return text ? text.split(',').map((part) => (part === '' ? Number.NaN : Number(part))) : [];
}

function readView(text: string | null): View | null {
  const [lon = Number.NaN, lat = Number.NaN, zoom = Number.NaN] = numbers(text);
  return isPoint(lon, lat) && zoom >= 0 && zoom <= 22 ? { lon, lat, zoom } : null;
}

function readPoint(text: string | null): Point | null {
  const [lon = Number.NaN, lat = Number.NaN] = numbers(text);
  return isPoint(lon, lat) ? { lon, lat } : null;
}

function readDay(text: string | null): string | null {
  if (!text || !/^\d{4}-\d{2}-\d{2}$/.test(text)) return null;
  const day = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text) ? text : null;
}

const isValue: Record<FilterField, (value: string) => boolean> = {
  stage: (value) => WORD.test(value),
  kind: (value) => WORD.test(value),
  owner: (value) => ID.test(value),
  territory: (value) => ID.test(value),
  segment: (value) => ID.test(value),
};

/** The longest condition that an address carries. */
const LONGEST = 4000;
const OFFER = /^((off|aut)_\d{1,18}|new|test|walk|fences|import|automations|new_automation)$/;
const TOOL = /^((key|whk)_\d{1,18}|new_key|new_webhook|requests)$/;
const SEGMENTATION = /^(sgm_\d{1,18}|new(\.[a-z_]{1,40})?)$/;

/** A condition as JSON in its one form; null where the text is none. */
function readWhere(text: string | null): string | null {
  if (!text || text.length > LONGEST) return null;
  try {
    const condition: unknown = JSON.parse(text);
    return condition !== null && typeof condition === 'object' && !Array.isArray(condition)
      ? JSON.stringify(condition)
      : null;
  } catch {
    return null;
  }
}

/** The state that an address stands for. `search` is `location.search`. */
export function readUrl(search: string): State {
  const query = new URLSearchParams(search);
  const customer = query.get('customer');
  const nearPoint = readPoint(query.get('near'));
  const from = oneOf<Near['from']>(['position', 'map', 'typed'], query.get('from')) ?? 'typed';
  const radius = Number(query.get('radius'));
  const lists = FILTER_FIELDS.map((field) => [field, listOf(query.get(field), isValue[field])]);
  const filters: Filters = { ...START.filters, ...Object.fromEntries(lists), where: readWhere(query.get('where')) };
  const segmentation = query.get('segmentation');
  const run = Number(query.get('run'));
  const score = query.get('score');
  const offer = query.get('offer');
  const who = query.get('who');
  const tool = query.get('tool');
  return {
    view: readView(query.get('at')),
    panel: oneOf(PANELS, query.get('panel')),
    colour: oneOf(COLOUR_KEYS, query.get('colour')) ?? START.colour,
    score: score && SCORE.test(score) ? score : null,
    filters,
    hidden: LAYERS.filter((layer) => listOf(query.get('hide'), () => true).includes(layer)),
    customer: customer && ID.test(customer) ? customer : null,
    near: nearPoint ? { ...nearPoint, from } : null,
    radius_m: RADII_M.find((r) => r === radius) ?? START.radius_m,
    here: readPoint(query.get('here')),
    as_of: readDay(query.get('as_of')),
    query: (query.get('q') ?? '').slice(0, 200),
    segmentation: segmentation && SEGMENTATION.test(segmentation) ? segmentation : null,
    run: Number.isInteger(run) && run > 0 && run <= 2_000_000_000 ? run : null,
    offer: offer && OFFER.test(offer) ? offer : null,
    who: who && ID.test(who) ? who : null,
    spot: readPoint(query.get('spot')),
    tool: tool && TOOL.test(tool) ? tool : null,
  };
}

const degrees = (value: number) => String(Number(value.toFixed(5)));
const pointText = (point: Point) => `${degrees(point.lon)},${degrees(point.lat)}`;

/** The address of a state: only what differs from the start, in a fixed order. Begins with `?` or is empty. */
export function writeUrl(state: State): string {
  const parts: [string, string][] = [];
  if (state.view) parts.push(['at', `${pointText(state.view)},${Number(state.view.zoom.toFixed(2))}`]);
  if (state.panel) parts.push(['panel', state.panel]);
  if (state.colour !== START.colour) parts.push(['colour', state.colour]);
  if (state.score !== null) parts.push(['score', state.score]);
  for (const field of FILTER_FIELDS) {
    if (state.filters[field].length > 0) parts.push([field, state.filters[field].join(',')]);
  }
  if (state.filters.where !== null) parts.push(['where', state.filters.where]);
  if (state.hidden.length > 0) parts.push(['hide', state.hidden.join(',')]);
  if (state.customer) parts.push(['customer', state.customer]);
  if (state.near) parts.push(['near', pointText(state.near)], ['from', state.near.from]);
  if (state.radius_m !== null) parts.push(['radius', String(state.radius_m)]);
  if (state.here) parts.push(['here', pointText(state.here)]);
  if (state.as_of) parts.push(['as_of', state.as_of]);
  if (state.query) parts.push(['q', state.query]);
  if (state.segmentation) parts.push(['segmentation', state.segmentation]);
  if (state.run) parts.push(['run', String(state.run)]);
  if (state.offer) parts.push(['offer', state.offer]);
  if (state.who) parts.push(['who', state.who]);
  if (state.spot) parts.push(['spot', pointText(state.spot)]);
  if (state.tool) parts.push(['tool', state.tool]);
  if (parts.length === 0) return '';
  return `?${parts.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll('%2C', ',')}`).join('&')}`;
}
