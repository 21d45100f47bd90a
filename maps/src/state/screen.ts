/** What belongs to this screen only and to no address: the tally of the map, the height of the sheet, focus. */

import { signal } from '@preact/signals';
import type { CustomerMap } from '../map/map';
import type { Tally } from '../map/tally';
import type { Point } from './model';

export type SheetHeight = 'peek' | 'half' | 'full';

export const tally = signal<Tally | null>(null);
export const sheet = signal<SheetHeight>('half');
/** Where the sites of the open card are. */
export const spots = signal<readonly Point[]>([]);
/** The id of the place whose note is open. */
export const place = signal<string | null>(null);
/** Raised after data changed, so that tiles are loaded again. */
export const edition = signal(0);
/** A failing tile or basemap file, to say so. */
export const trouble = signal<{ readonly source: string; readonly status: number | null } | null>(null);
/** The map once it stands; panels move it through this. */
export const map = signal<CustomerMap | null>(null);
/** The element that opened the card, to go back to. */
export const opener = signal<string | null>(null);
export const isPhone = signal(window.matchMedia('(max-width: 760px)').matches);

window.matchMedia('(max-width: 760px)').addEventListener('change', (event) => {
  isPhone.value = event.matches;
});
