/** What is wrong with a field, or still missing, said where it is. */

import type { ComponentChildren } from 'preact';
import { type Fault, faultsOf } from './form';

export function Faults({ id, faults, of }: { id: string; faults: readonly Fault[]; of: readonly string[] }) {
  const own = faultsOf(faults, ...of);
  return (
    <ul id={`${id}-faults`} class="faults" hidden={own.length === 0}>
      {own.map(({ pointer, detail }) => (
        <li key={`${pointer} ${detail}`} class="small wrong">
          {detail}
        </li>
      ))}
    </ul>
  );
}

interface FieldProps {
  id: string;
  label: string;
  faults: readonly Fault[];
  of: string;
  hint?: string;
  /** The input, given what ties it to its faults. */
  children: (tied: { id: string; 'aria-invalid': boolean; 'aria-describedby': string }) => ComponentChildren;
}

export function Field({ id, label, faults, of, hint, children }: FieldProps) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({
        id,
        'aria-invalid': faultsOf(faults, of).length > 0,
        'aria-describedby': hint ? `${id}-faults ${id}-hint` : `${id}-faults`,
      })}
      <Faults id={id} faults={faults} of={[of]} />
      {hint && (
        <p id={`${id}-hint`} class="small quiet">
          {hint}
        </p>
      )}
    </div>
  );
}

interface ConfirmProps {
  question: string;
  children: ComponentChildren;
  yes: string;
  busy: boolean;
  act: () => void;
  cancel: () => void;
}

/** Asks before something that cannot be taken back. */
export function Confirm({ question, children, yes, busy, act, cancel }: ConfirmProps) {
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
          Not now
        </button>
      </div>
    </section>
  );
}
