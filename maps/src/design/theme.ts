/** Light, dark or sunlight: as the system says, or as the person chose on this device. */

import { computed, signal } from '@preact/signals';
import type { Theme } from '../map/style';

export const THEME_CHOICES = ['system', 'light', 'dark', 'sunlight'] as const;
export type ThemeChoice = (typeof THEME_CHOICES)[number];

const KEY = 'geocrm.theme';
const system = window.matchMedia('(prefers-color-scheme: dark)');

function stored(): ThemeChoice {
  try {
    const text = window.localStorage.getItem(KEY);
    return THEME_CHOICES.find((choice) => choice === text) ?? 'system';
  } catch {
    return 'system';
  }
}

const chosen = signal<ThemeChoice>(stored());
const systemIsDark = signal(system.matches);
system.addEventListener('change', (event) => {
  systemIsDark.value = event.matches;
});

export const themeChoice = computed(() => chosen.value);
export const theme = computed<Theme>(() =>
  chosen.value === 'system' ? (systemIsDark.value ? 'dark' : 'light') : chosen.value,
);

export function chooseTheme(choice: ThemeChoice): void {
  chosen.value = choice;
  try {
    window.localStorage.setItem(KEY, choice);
  } catch {
    // A browser without storage forgets the choice with the page.
  }
}

/** Keeps the document's theme with the choice, from the first paint on. */
export function followTheme(): void {
  theme.subscribe((name) => {
    document.documentElement.dataset.theme = name;
  });
}
