/** A secret that is shown once. */

import { CopyButton } from '../components/copy';

export function Secret({ secret, what }: { secret: string; what: string }) {
  return (
    <section class="notice secret" aria-labelledby="secret-title">
      <strong id="secret-title">The secret of this {what}, shown this once</strong>
      <p class="small">
        Only you have it: keep it where your program finds it, and nowhere else. When you leave or reload this page it
        is gone.
      </p>
      <code class="token">{secret}</code>
      <CopyButton text={secret} what="the secret" />
    </section>
  );
}
