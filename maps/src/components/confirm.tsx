/** Asks before something that cannot be taken back. */

import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';

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
  const section = useRef<HTMLElement>(null);
  // The keyboard goes on where it came from, unless it was put elsewhere; also where the answer is quicker than a frame.
  useLayoutEffect(() => {
    const mine = section.current;
    return () => {
      const { activeElement } = document;
      const nowhere = activeElement === null || activeElement === document.body || mine?.contains(activeElement);
      if (nowhere && from instanceof HTMLElement) from.focus({ preventScroll: true });
    };
  }, []);
  return (
    <section
      ref={section}
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
