/** How kinds of places are called and marked. */

import { counted, words } from '../format';

const NAMES: Readonly<Record<string, readonly [string, string]>> = {
  own: ['own shop (dark)', 'own shops (dark)'],
  shop: ['own shop (dark)', 'own shops (dark)'],
  competitor: ['competitor (outlined)', 'competitors (outlined)'],
  depot: ['depot (dark)', 'depots (dark)'],
};

/** "Own shop", "Competitor". */
export function kindOfPlace(kind: string): string {
  return words((NAMES[kind]?.[0] ?? kind).replace(/ \(.*/, ''));
}

/** "3 own shops (dark), 5 competitors (outlined)". */
export function placeIconText(kinds: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const kind of kinds) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts]
    .map(([kind, n]) => {
      const [one, many] = NAMES[kind] ?? [words(kind).toLowerCase(), `${words(kind).toLowerCase()}s`];
      return counted(n, one, many);
    })
    .join(', ');
}
