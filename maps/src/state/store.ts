/** The one store. Components read signals, `show` changes them, the address of the page follows. */

import { computed, signal } from '@preact/signals';
import { type ColourKey, type FilterField, type Filters, type Layer, NO_FILTERS, type State, toggled } from './model';
import { bring } from './screen';
import { readUrl, writeUrl } from './url';

const current = signal<State>(readUrl(window.location.search));

/** The whole state, to read. */
export const state = computed(() => current.value);
export const filters = computed(() => current.value.filters);
export const colour = computed(() => current.value.colour);
export const panel = computed(() => current.value.panel);
export const customer = computed(() => current.value.customer);

/**
 * Changes the state and the address. A step that a person would want to take back (`'step'`) gets an own entry in
 * the browser's history; a movement of the map (`'quiet'`) replaces the present one.
 */
export function show(change: Partial<State>, history: 'step' | 'quiet' = 'step'): void {
  const next = { ...current.value, ...change };
  const address = window.location.pathname + writeUrl(next);
  current.value = next;
  if (address === window.location.pathname + window.location.search) return;
  if (history === 'step') window.history.pushState(null, '', address);
  else window.history.replaceState(null, '', address);
}

export function toggleFilter(field: FilterField, value: string): void {
  const changed: Filters = { ...current.value.filters, [field]: toggled(current.value.filters[field], value) };
  show({ filters: changed });
}

export function clearFilters(): void {
  show({ filters: NO_FILTERS });
}

/** One more condition on what is shown, or none: a filter of the API. */
export function showWhere(condition: object | null): void {
  show({ filters: { ...current.value.filters, where: condition && JSON.stringify(condition) } });
}

export function toggleLayer(layer: Layer): void {
  show({ hidden: toggled(current.value.hidden, layer) as Layer[] }, 'quiet');
}

export function colourBy(key: ColourKey): void {
  show({ colour: key });
}

/** Colours by a score, KEY.NAME. */
export function colourByScore(score: string): void {
  show({ colour: 'score', score });
}

window.addEventListener('popstate', () => {
  bring.value = 'visible';
  current.value = readUrl(window.location.search);
});
