/** What is told of territories, and in which order: the layer by which the company works first, others where they match. */

export interface Told {
  readonly layer: string;
  readonly territory: object | null;
}

export interface NamedLayer {
  readonly key: string;
  readonly name: string;
  readonly is_primary: boolean;
}

export const primaryOf = <L extends NamedLayer>(layers: readonly L[]): L | undefined =>
  layers.find((layer) => layer.is_primary);

/** The rows worth telling, those of the primary layer first; of other layers only where a territory matches. */
export function worthTelling<T extends Told>(rows: readonly T[], layers: readonly NamedLayer[]): readonly T[] {
  const first = primaryOf(layers)?.key;
  const own = rows.filter((row) => row.layer === first);
  return [...own, ...rows.filter((row) => row.layer !== first && row.territory !== null)];
}

export const layerName = (key: string, layers: readonly NamedLayer[]): string =>
  layers.find((layer) => layer.key === key)?.name ?? key;

/** "In no sales territory", for a layer called Sales or Sales territories. */
export function inNone(name: string): string {
  const kind = name.replace(/\s*territor(y|ies)$/i, '').toLowerCase();
  return `In no ${kind} territory`.replace('  ', ' ');
}
