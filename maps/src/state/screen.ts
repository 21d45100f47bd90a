/** What belongs to this screen only and to no address: the tally of the map, the height of the sheet, focus. */

import { signal } from '@preact/signals';
import type { CustomerMap } from '../map/map';
import { NO_SKETCH, type Sketch } from '../map/sketch';
import type { Tally } from '../map/tally';
import type { Point } from './model';

export type SheetHeight = 'peek' | 'half' | 'full';

/** What stands in the view; null while that is not known. */
export const tally = signal<Tally | null>(null);
/** The last tally without a filter by the present colour's own field, and of which view and other filters it is. */
export const open = signal<{ readonly scope: string; readonly tally: Tally } | null>(null);

/** Customers of the view are being loaded. */
export const loading = signal(true);

export const sheet = signal<SheetHeight>('half');
/** Pixels at the bottom of a phone's map that the sheet covers. */
export const covered = signal(0);
/** A site of the open card, and in which circle it lies in 95 of 100 cases. */
export interface Spot extends Point {
  readonly precision_m: number | null;
}
export const spots = signal<readonly Spot[]>([]);

/** The view came with the address, or somebody moved the map: what a page would bring into view by itself stays away. */
export const aimed = signal(false);

/** How the next card comes into view: a list brings the map near, a click on the map leaves it where it is. */
export const bring = signal<'near' | 'visible'>('near');

/** The circle in which the list of near customers searched; null for none. */
export const searched_m = signal<number | null>(null);
/** The territory in which the point lies that was asked for. */
export const found = signal<string | null>(null);

/** The id of the place whose note is open. */
export const place = signal<string | null>(null);
/** Raised after data changed, so that tiles are loaded again. */
export const edition = signal(0);
/** A failing tile or basemap file, to say so. */
export const trouble = signal<{ readonly source: string; readonly status: number | null } | null>(null);
/** The map once it stands; panels move it through this. */
export const map = signal<CustomerMap | null>(null);
/** What a panel draws on the map; NO_SKETCH while none does. */
export const sketch = signal<Sketch>(NO_SKETCH);
/** Takes the points that are clicked on the map; null while no panel wants them. */
export const tap = signal<((point: Point) => void) | null>(null);
/** Takes the areas that are clicked on the map, of the layer that the sketch offers to pick from. */
export const pick = signal<((id: string, name: string) => void) | null>(null);
/** The element that opened the card, to go back to. */
export const opener = signal<string | null>(null);

/** What a media query says, now and later. */
function matching(query: string) {
  const list = window.matchMedia(query);
  const now = signal(list.matches);
  list.addEventListener('change', (event) => {
    now.value = event.matches;
  });
  return now;
}
export const isPhone = matching('(max-width: 760px)');
/** The page is touched rather than pointed at. */
export const isCoarse = matching('(pointer: coarse)');
