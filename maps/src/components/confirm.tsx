/** Asks before something that cannot be taken back. */

import type { ComponentChildren } from 'preact';

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
