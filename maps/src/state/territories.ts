/** What is told of territories, and in which order: the layer by which the company works first, others where they match. */

export interface Told {
  readonly layer: { readonly is_primary: boolean };
  readonly area: object | null;
}

export const primaryOf = <L extends Told['layer']>(layers: readonly L[]): L | undefined =>
  layers.find((layer) => layer.is_primary);

/** The rows worth telling, those of the primary layer first; of other layers only where an area matches. */
export function worthTelling<T extends Told>(rows: readonly T[]): readonly T[] {
  const own = rows.filter((row) => row.layer.is_primary);
  return [...own, ...rows.filter((row) => !row.layer.is_primary && row.area !== null)];
}

/** "In no sales territory", for a layer called Sales or Sales territories. */
export function inNone(name: string): string {
  const kind = name.replace(/\s*territor(y|ies)$/i, '').toLowerCase();
  return `In no ${kind} territory`.replace('  ', ' ');
}
