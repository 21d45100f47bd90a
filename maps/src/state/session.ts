/** Who is signed in, and what belongs to the session: names of owners and territories, places, the map's layer. */

import { computed, signal } from '@preact/signals';
import { Problem, useCsrfToken, whenSignedOut } from '../api/client';
import * as routes from '../api/routes';
import type { Area, Colleague, LayerRow, Me, Place, Segmentation } from '../api/shapes';
import type { Bounds, StyleSpecification } from '../map/map';
import type { ColourField } from './model';
import { asProblem } from './remote';
import { primaryOf } from './territories';

export type Session =
  | { readonly status: 'asking' }
  /** `ended`: somebody was signed in on this page, and the server no longer knows it. */
  | { readonly status: 'nobody'; readonly ended: boolean }
  | { readonly status: 'failed'; readonly problem: Problem }
  | { readonly status: 'somebody'; readonly me: Me };

/** What is loaded once per session and shown everywhere. */
export interface Company {
  readonly status: 'loading' | 'ready' | 'failed';
  readonly problem: Problem | null;
  readonly owners: readonly Colleague[];
  readonly territories: readonly Area[];
  readonly territoryLayer: string | null;
  readonly layers: readonly LayerRow[];
  readonly places: readonly Place[];
  /** All segmentations, the active one first, and by what methods more can be made. */
  readonly segmentations: readonly Segmentation[];
  readonly methods: readonly string[];
  /** How many sites the reader sees of each stage, owner, territory and segment; null where the API does not count them. */
  readonly keys: Readonly<Record<ColourField, Readonly<Record<string, number>>>> | null;
  /** Where the visible customers are; null where there is none. */
  readonly bounds: Bounds | null;
  readonly base: StyleSpecification | null;
}

const NOTHING: Company = {
  status: 'loading',
  problem: null,
  owners: [],
  territories: [],
  territoryLayer: null,
  layers: [],
  places: [],
  segmentations: [],
  methods: [],
  keys: null,
  bounds: null,
  base: null,
};

const currentSession = signal<Session>({ status: 'asking' });
const currentCompany = signal<Company>(NOTHING);

export const session = computed(() => currentSession.value);
export const company = computed(() => currentCompany.value);
export const me = computed(() => (currentSession.value.status === 'somebody' ? currentSession.value.me : null));

whenSignedOut(() => {
  useCsrfToken(null);
  const ended = currentSession.value.status === 'somebody';
  currentCompany.value = NOTHING;
  currentSession.value = { status: 'nobody', ended };
});

/** Asks who is signed in. `quietly`: what is on the screen stays there unless nobody is. */
export async function askSession(quietly = false): Promise<void> {
  if (!quietly) currentSession.value = { status: 'asking' };
  try {
    currentSession.value = { status: 'somebody', me: await routes.whoAmI() };
    if (!quietly) void loadCompany();
  } catch (error) {
    const problem = asProblem(error);
    // Of a 401 the client has told `whenSignedOut` already.
    if (problem.status !== 401 && !quietly) currentSession.value = { status: 'failed', problem };
  }
}

/** Signs in; throws the `Problem` for the form to show. */
export async function signIn(email: string, password: string): Promise<void> {
  const somebody = await routes.signIn(email, password);
  currentSession.value = { status: 'somebody', me: somebody };
  void loadCompany();
}

export async function signOut(): Promise<void> {
  try {
    await routes.signOut();
  } catch (error) {
    if (asProblem(error).status !== 401) throw error;
  }
  useCsrfToken(null);
  currentCompany.value = NOTHING;
  currentSession.value = { status: 'nobody', ended: false };
}

/** Some parts may be forbidden to a role: then they are empty, not an error. */
async function permitted<T>(loading: Promise<T>, instead: T): Promise<T> {
  try {
    return await loading;
  } catch (error) {
    if (error instanceof Problem && (error.status === 403 || error.status === 404)) return instead;
    throw error;
  }
}

async function baseStyle(): Promise<StyleSpecification | null> {
  const address = me.value?.settings.map_style_url;
  if (!address) return null;
  const answer = await fetch(address, { credentials: 'omit' });
  if (!answer.ok) throw new Problem(answer.status, 'The map style of this installation cannot be loaded', address);
  return (await answer.json()) as StyleSpecification;
}

function boundsOf(bounds: readonly number[] | null | undefined): Bounds | null {
  const [west, south, east, north] = bounds ?? [];
  if (west === undefined || south === undefined || east === undefined || north === undefined) return null;
  return [west, south, east, north];
}

export async function loadCompany(): Promise<void> {
  currentCompany.value = { ...NOTHING, status: 'loading' };
  try {
    const [layerList, owners, places, divided, tiles, base] = await Promise.all([
      permitted(routes.layers(), { data: [] }),
      permitted(routes.colleagues(), []),
      permitted(routes.places(), []),
      permitted(routes.segmentations(), { data: [], methods: [] }),
      routes.customerTileJson(),
      baseStyle(),
    ]);
    const layer = primaryOf(layerList.data);
    const territories = layer ? await permitted(routes.areas(layer.id), []) : [];
    currentCompany.value = {
      status: 'ready',
      problem: null,
      owners,
      territories,
      layers: layerList.data,
      territoryLayer: layer ? `lay_${layer.key}` : null,
      places,
      segmentations: divided.data,
      methods: divided.methods,
      keys: tiles.keys ?? null,
      bounds: boundsOf(tiles.bounds),
      base,
    };
  } catch (error) {
    const problem = asProblem(error);
    if (problem.status !== 401) currentCompany.value = { ...NOTHING, status: 'failed', problem };
  }
}

/** What is published of segmentations, again: after a run was published or another became the active one. */
export async function loadSegmentations(): Promise<void> {
  const [divided, tiles] = await Promise.all([routes.segmentations(), routes.customerTileJson()]);
  currentCompany.value = {
    ...currentCompany.value,
    segmentations: divided.data,
    methods: divided.methods,
    keys: tiles.keys ?? null,
  };
}
