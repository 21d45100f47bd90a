/** Messages of webhooks: from whom they are, and what they say. The signature is that of Standard Webhooks. */

const TOLERANCE_S = 300;

/** The message is not signed with the webhook's secret, or not of the last five minutes. */
export class NotFromGeocrm extends Error {}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
}

/** What a message says, once its signature has proved right; throws NotFromGeocrm. `secret` is the text that came when
 * the webhook was made (`whsec_…`), `body` the bytes of the request as they came, `now_s` seconds since 1970. */
export async function readMessage(
  secret: string,
  headers: { get(name: string): string | null },
  body: Uint8Array<ArrayBuffer>,
  now_s: number = Date.now() / 1000,
): Promise<{ type: string; timestamp: string; data: Record<string, unknown> }> {
  const id = headers.get('webhook-id');
  const sent = headers.get('webhook-timestamp');
  const given = headers.get('webhook-signature');
  if (!id || !sent || !/^\d+$/.test(sent) || !given) throw new NotFromGeocrm('no signature');
  if (Math.abs(now_s - Number(sent)) > TOLERANCE_S)
    throw new NotFromGeocrm('the message is too old, or from the future');
  const hmac = { name: 'HMAC', hash: 'SHA-256' };
  const key = await crypto.subtle.importKey('raw', bytesOf(secret.replace(/^whsec_/, '')), hmac, false, ['verify']);
  const head = new TextEncoder().encode(`${id}.${sent}.`);
  const signed = new Uint8Array(head.length + body.length);
  signed.set(head);
  signed.set(body, head.length);
  for (const one of given.split(' ')) {
    if (!one.startsWith('v1,')) continue;
    try {
      if (await crypto.subtle.verify('HMAC', key, bytesOf(one.slice(3)), signed)) {
        return JSON.parse(new TextDecoder().decode(body));
      }
    } catch {} // not base64: not this one
  }
  throw new NotFromGeocrm('the signature is not right');
}
