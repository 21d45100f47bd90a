/** Asks before something that cannot be taken back. */

import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

interface ConfirmProps {
  question: string;
  children: ComponentChildren;
  yes: string;
  no?: string;
  busy: boolean;
  act: () => void;
  cancel: () => void;
}

export function Confirm({ question, children, yes, no = 'Not now', busy, act, cancel }: ConfirmProps) {
  const from = useRef(document.activeElement).current;
  // The keyboard goes on where it came from, unless it was put elsewhere.
  useEffect(
    () => () => {
      const { activeElement } = document;
      if (from instanceof HTMLElement && (activeElement === null || activeElement === document.body))
        from.focus({ preventScroll: true });
    },
    [],
  );
  return (
    <section
      class="notice"
      role="alertdialog"
      aria-label={question}
      onKeyDown={(event) => {
        if (event.key !== 'Escape') return;
        event.preventDefault();
        cancel();
      }}
    >
      <strong>{question}</strong>
      {children}
      <div class="row-actions">
        <button
          type="button"
          class="button primary"
          ref={(button) => button?.focus({ preventScroll: false })}
          disabled={busy}
          onClick={act}
        >
          {yes}
        </button>
        <button type="button" class="button" disabled={busy} onClick={cancel}>
          {no}
        </button>
      </div>
    </section>
  );
}
