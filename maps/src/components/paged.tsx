/** A list that comes in pages: loading, failing, empty, its rows, and the next ones when they are asked for. */

import type { ComponentChildren } from 'preact';
import type { Pages } from '../state/remote';
import { Failed, Loading } from './states';

interface Props<T> {
  pages: Pages<T>;
  /** What is loading. */
  what: string;
  lines?: number;
  /** In the place of no rows. */
  empty: ComponentChildren;
  /** On the button for the next page. */
  next?: string;
  children: (rows: readonly T[]) => ComponentChildren;
}

export function Paged<T>({ pages, what, lines = 4, empty, next = 'More', children }: Props<T>) {
  const { remote, more, loadingMore, moreProblem, again } = pages;
  if (remote.status === 'idle') return null;
  if (remote.status === 'loading') return <Loading what={what} lines={lines} />;
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  return (
    <>
      {remote.data.length === 0 ? empty : children(remote.data)}
      {moreProblem && <Failed problem={moreProblem} again={more ?? undefined} />}
      {more && !moreProblem && (
        <button type="button" class="button" disabled={loadingMore} onClick={more}>
          {loadingMore ? 'Loading…' : next}
        </button>
      )}
    </>
  );
}
