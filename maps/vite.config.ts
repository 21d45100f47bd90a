import { defineConfig } from 'vite';

/** Where `npm run dev` finds the API; `PORT` is the same setting that `geocrm up` honours. */
const api = `http://127.0.0.1:${process.env.PORT ?? '8000'}`;
const proxied = ['/v1', '/tiles', '/health', '/ready', '/openapi.json'];

export default defineConfig({
  server: {
    host: '127.0.0.1',
    proxy: Object.fromEntries(proxied.map((path) => [path, { target: api, changeOrigin: false }])),
  },
  worker: { format: 'es' },
  build: {
    target: 'es2022',
    sourcemap: false,
    chunkSizeWarningLimit: 1200,
    // Assets inlined as data: addresses would need a looser content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
