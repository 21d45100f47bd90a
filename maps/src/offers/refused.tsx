/** A change that was refused: because somebody else was first, or for another reason. */

import type { Problem } from '../api/client';
import { Failed } from '../components/states';
import { written } from './state';

export function Refused({ what, problem }: { what: string; problem: Problem | null }) {
  if (!problem) return null;
  if (problem.status !== 412) return <Failed problem={problem} />;
  return (
    <div class="notice" role="alert">
      <strong>Somebody else has changed this {what} meanwhile</strong>
      <p>Look at it again before you go on.</p>
      <button type="button" class="button" onClick={written}>
        Show it as it is now
      </button>
    </div>
  );
}
