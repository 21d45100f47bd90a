/**
 * What has to be done to a drawn style document so that it becomes another. The library's own comparison looks at what
 * sources have loaded, and would load the basemap again; this one compares the documents themselves. Pure.
 */

import type { LayerSpecification, SourceSpecification, StyleSpecification } from './map';

export type Step =
  | { readonly do: 'remove layer'; readonly id: string }
  | { readonly do: 'remove source'; readonly id: string }
  | { readonly do: 'add source'; readonly id: string; readonly source: SourceSpecification }
  | { readonly do: 'add layer'; readonly layer: LayerSpecification; readonly before: string | undefined }
  | { readonly do: 'set data'; readonly id: string; readonly data: GeoJSON.GeoJSON }
  | { readonly do: 'set paint' | 'set layout'; readonly id: string; readonly name: string; readonly value: unknown };

const same = (a: unknown, b: unknown): boolean => a === b || JSON.stringify(a) === JSON.stringify(b);

/** Whether two objects differ in nothing but the named part. */
function onlyDiffer<T extends object>(a: T, b: T, part: string): boolean {
  return same({ ...a, [part]: null }, { ...b, [part]: null });
}

/**
 * Null where the source has to be replaced. That is so for other tiles too: the library takes a tile with the former
 * entity tag for the former tile, though it comes from another address.
 */
function sourceSteps(id: string, before: SourceSpecification, after: SourceSpecification): readonly Step[] | null {
  if (same(before, after)) return [];
  if (before.type === 'geojson' && after.type === 'geojson' && onlyDiffer(before, after, 'data')) {
    return typeof after.data === 'string' ? null : [{ do: 'set data', id, data: after.data as GeoJSON.GeoJSON }];
  }
  return null;
}

type Values = Readonly<Record<string, unknown>>;

function valueSteps(kind: 'set paint' | 'set layout', id: string, before: Values, after: Values): readonly Step[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return names
    .filter((name) => !same(before[name], after[name]))
    .map((name) => ({ do: kind, id, name, value: after[name] }));
}

/** A layer without what can be changed while it stands. */
function frame(layer: LayerSpecification): object {
  return { ...layer, paint: null, layout: null };
}

/** The steps from one document to another, in the order in which they have to be done. */
export function steps(before: StyleSpecification, after: StyleSpecification): readonly Step[] {
  const removed: Step[] = [];
  const changed: Step[] = [];
  const added: Step[] = [];

  const replaced = new Set<string>();
  for (const [id, source] of Object.entries(before.sources)) {
    const next = after.sources[id];
    const inPlace = next ? sourceSteps(id, source, next) : null;
    if (inPlace) changed.push(...inPlace);
    else replaced.add(id);
  }
  const sourceOf = (layer: LayerSpecification) => ('source' in layer ? String(layer.source) : '');

  // Layers that can stay: the same frame, a source that stays, and in the order of the new document.
  const order = new Map(after.layers.map((layer, index) => [layer.id, index]));
  const staying = new Map<string, LayerSpecification>();
  let last = -1;
  for (const layer of before.layers) {
    const index = order.get(layer.id);
    const next = index === undefined ? undefined : after.layers[index];
    const stays =
      next !== undefined &&
      index !== undefined &&
      index > last &&
      !replaced.has(sourceOf(layer)) &&
      same(frame(layer), frame(next));
    if (stays) {
      staying.set(layer.id, layer);
      last = index;
    } else removed.push({ do: 'remove layer', id: layer.id });
  }
  for (const id of replaced) removed.push({ do: 'remove source', id });
  for (const [id, source] of Object.entries(after.sources)) {
    if (replaced.has(id) || !(id in before.sources)) added.push({ do: 'add source', id, source });
  }

  let above: string | undefined;
  const layers: Step[] = [];
  for (const layer of [...after.layers].reverse()) {
    const stood = staying.get(layer.id);
    if (stood) {
      changed.push(
        ...valueSteps('set layout', layer.id, (stood.layout ?? {}) as Values, (layer.layout ?? {}) as Values),
        ...valueSteps('set paint', layer.id, (stood.paint ?? {}) as Values, (layer.paint ?? {}) as Values),
      );
    } else layers.push({ do: 'add layer', layer, before: above });
    above = layer.id;
  }
  return [...removed, ...added, ...layers, ...changed];
}
