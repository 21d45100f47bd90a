/** What stands in the place of data while it loads, where there is none, and where it failed. */

import type { ComponentChildren } from 'preact';
import type { Problem } from '../api/client';

export function Loading({ what, lines = 4 }: { what: string; lines?: number }) {
  return (
    <div role="status" class="skeleton">
      <p class="hidden-visually">Loading {what}</p>
      {Array.from({ length: lines }, (_, line) => (
        <span key={line} />
      ))}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <strong>{title}</strong>
      {children}
    </div>
  );
}

/** What the sentence of a problem does not say already. */
const untold = ({ message, errors }: Problem) => errors.filter(({ detail }) => !detail || !message.includes(detail));

export function Failed({ problem, again }: { problem: Problem; again?: (() => void) | undefined }) {
  return (
    <div class="failed" role="alert">
      <strong>{problem.title}</strong>
      {problem.message !== problem.title && <p>{problem.message}</p>}
      {untold(problem).map((fault) => (
        <p key={`${fault.pointer}${fault.detail}`}>
          {fault.pointer} {fault.detail}
        </p>
      ))}
      {problem.requestId && <p class="small quiet">Request {problem.requestId}</p>}
      {again && (
        <button type="button" class="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}
