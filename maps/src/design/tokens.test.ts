import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { contrast } from './palette';

const css = readFileSync(new URL('./tokens.css', import.meta.url), 'utf8');

/** The colours of a theme: the light ones, with what the theme says otherwise. */
function colours(theme: 'light' | 'dark' | 'sunlight'): Record<string, string> {
  const found: Record<string, string> = {};
  for (const block of css.matchAll(/:root(?:\[data-theme="(\w+)"\])? \{([^}]*)\}/g)) {
    if (block[1] !== undefined && block[1] !== theme) continue;
    for (const line of (block[2] ?? '').matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)) found[line[1] ?? ''] = line[2] ?? '';
  }
  return found;
}

describe.each(['light', 'dark', 'sunlight'] as const)('%s', (theme) => {
  const c = colours(theme);
  const of = (ink: string, ground: string) => contrast(c[ink] ?? '', c[ground] ?? '');
  const wanted = theme === 'sunlight' ? 7 : 4.5;

  it.each([
    ['ink', 'surface'],
    ['ink', 'surface-raised'],
    ['ink', 'surface-sunken'],
    ['ink', 'accent-soft'],
    ['ink', 'danger-soft'],
    ['ink-quiet', 'surface'],
    ['ink-quiet', 'surface-raised'],
    ['ink-quiet', 'surface-sunken'],
    ['ink-quiet', 'accent-soft'],
    ['ink-quiet', 'danger-soft'],
    ['accent', 'surface'],
    ['accent-ink', 'accent'],
    ['danger', 'danger-soft'],
    ['danger', 'surface'],
  ])('text %s on %s can be read', (ink, ground) => {
    expect(of(ink, ground)).toBeGreaterThanOrEqual(wanted);
  });

  it('outlines of controls can be seen', () => {
    expect(of('outline', 'surface')).toBeGreaterThanOrEqual(3);
    expect(of('accent', 'accent-soft')).toBeGreaterThanOrEqual(3);
  });
});
