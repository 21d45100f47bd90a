// The documentation of this server's own API. Requests carry the session of the map, with its CSRF token where it
// writes; a bearer key can be given with "Authorize".
(async () => {
  let token = null;
  try {
    const answer = await fetch('/v1/me', { credentials: 'same-origin' });
    if (answer.ok) token = (await answer.json()).csrf_token ?? null;
  } catch {
    // Without a server the description cannot be loaded either; swagger-ui says so.
  }
  window.SwaggerUIBundle({
    url: '/openapi.json',
    dom_id: '#docs',
    deepLinking: true,
    docExpansion: 'list',
    filter: true,
    tryItOutEnabled: false,
    validatorUrl: null,
    requestInterceptor: (request) => {
      const ours = new URL(request.url, window.location.href).origin === window.location.origin;
      if (ours && token && request.method && request.method !== 'GET') request.headers['X-CSRF-Token'] = token;
      return request;
    },
  });
})();
