/** Whether the server can be reached. */

import { signal } from '@preact/signals';
import { whenUnreachable } from '../api/client';

const AGAIN_MS = 3_000;

/** The browser says that it has no connection, and the server does not answer: one on the same machine may still do. */
export const offline = signal(false);

let waiting: ReturnType<typeof setTimeout> | undefined;

async function look(): Promise<void> {
  clearTimeout(waiting);
  try {
    await fetch('/health', { cache: 'no-store' });
    offline.value = false;
  } catch {
    offline.value = !navigator.onLine;
  }
  if (offline.value) waiting = setTimeout(() => void look(), AGAIN_MS);
}

window.addEventListener('offline', () => void look());
window.addEventListener('online', () => void look());
whenUnreachable(() => void look());
if (!navigator.onLine) void look();
