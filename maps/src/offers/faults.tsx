/** What is wrong with a field, or still missing, said where it is. */

import type { ComponentChildren, InputHTMLAttributes } from 'preact';
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

/** Brings the first of what is said into view, below the head of its panel. */
export function reveal(said = '.editor .faults:not([hidden])'): void {
  // Not by scrollIntoView: on a phone that moves the page away from under its menu.
  requestAnimationFrame(() => {
    const first = document.querySelector(said);
    const panel = first?.closest('.panel-scroll');
    if (!first || !panel) return;
    panel.scrollBy({ top: first.getBoundingClientRect().top - panel.getBoundingClientRect().top - 120 });
  });
}

interface FieldProps {
  id: string;
  label: string;
  faults: readonly Fault[];
  of: string;
  hint?: string | undefined;
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

type Typed = 'maxLength' | 'placeholder' | 'inputMode';

interface TextFieldProps extends Omit<FieldProps, 'children'>, Pick<InputHTMLAttributes, Typed> {
  value: string;
  change: (value: string) => void;
}

/** A field of one line. */
export function TextField({ id, label, faults, of, hint, change, ...input }: TextFieldProps) {
  return (
    <Field id={id} label={label} faults={faults} of={of} hint={hint}>
      {(tied) => <input {...tied} class="input" {...input} onInput={(event) => change(event.currentTarget.value)} />}
    </Field>
  );
}
