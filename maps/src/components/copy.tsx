/** A button that copies a text. */

import { useState } from 'preact/hooks';
import { Icon } from '../design/icons';

export function CopyButton({ text, what }: { text: string; what: string }) {
  const [copied, setCopied] = useState(false);
  return (
    <>
      <button
        type="button"
        class="button"
        onClick={() =>
          navigator.clipboard?.writeText(text).then(
            () => setCopied(true),
            () => setCopied(false),
          )
        }
      >
        <Icon name="copy" />
        <span>
          {copied ? 'Copied' : 'Copy'}
          <span class="hidden-visually"> {what}</span>
        </span>
      </button>
      <span role="status" class="hidden-visually">
        {copied ? 'Copied' : ''}
      </span>
    </>
  );
}
