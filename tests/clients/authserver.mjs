// The authorization server of the tests: the certified `oidc-provider` package as it is, with an account for whoever types a name.
//
//   node authserver.mjs PACKAGE_DIR PORT ACCESS_TOKEN_SECONDS
//
// Prints "ready" when it listens. On its standard input: "revoke" takes every consent back, "tokens" prints every token given so far,
// one a line, and then "end"; "expire" ends every access token before its time, the consents stay.
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [dir, port, seconds] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${dir}/node_modules/oidc-provider/lib/index.js`));

// Everything in memory, in reach of "revoke".
const stored = new Map();
class Memory {
  constructor(name) { this.name = name; }
  key(id) { return `${this.name}:${id}`; }
  async upsert(id, payload) { stored.set(this.key(id), payload); }
  async find(id) { return stored.get(this.key(id)); }
  async findByUserCode(code) { return this.search('userCode', code); }
  async findByUid(uid) { return this.search('uid', uid); }
  search(field, value) {
    return [...stored].filter(([key]) => key.startsWith(`${this.name}:`)).map(([, payload]) => payload)
      .find((payload) => payload[field] === value);
  }
  async consume(id) { const found = await this.find(id); if (found) found.consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { stored.delete(this.key(id)); }
  async revokeByGrantId(grant) {
    for (const [key, payload] of stored) if (payload.grantId === grant) stored.delete(key);
  }
}

const given = [];
const provider = new Provider(`http://127.0.0.1:${port}`, {
  adapter: Memory,
  clients: [
    {
      client_id: 'mailweir',
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/'],
    },
    {
      client_id: 'mailweir-with-secret',
      client_secret: 'Client-Geheim-52c1aa90d3',
      token_endpoint_auth_method: 'client_secret_post',
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/'],
    },
    // An organisation's application that acts by itself; for Dovecot, which is told the client's id, the owner of a mailbox.
    {
      client_id: 'ann',
      client_secret: 'Client-Geheim-52c1aa90d3',
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      scope: 'mail',
    },
    { client_id: 'dovecot', client_secret: 'dovecot-secret', grant_types: [], response_types: [], redirect_uris: [] },
  ],
  cookies: { keys: ['of the tests'] },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    introspection: { enabled: true },
  },
  issueRefreshToken: async () => true,
  pkce: { methods: ['S256'], required: () => true },
  scopes: ['mail'],
  ttl: { AccessToken: Number(seconds), ClientCredentials: Number(seconds), DeviceCode: 600, Grant: 86400, Interaction: 600, RefreshToken: 86400, Session: 86400 },
});
provider.on('grant.success', (ctx) => {
  for (const name of ['access_token', 'refresh_token']) if (ctx.body[name]) given.push(ctx.body[name]);
});
provider.on('server_error', (ctx, error) => console.error(error));
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));

createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'revoke') {
    for (const key of stored.keys()) if (/^(Grant|AccessToken|RefreshToken):/.test(key)) stored.delete(key);
    console.log('revoked');
  } else if (line === 'expire') {
    for (const key of stored.keys()) if (/^(AccessToken|ClientCredentials):/.test(key)) stored.delete(key);
    console.log('expired');
  } else if (line === 'tokens') {
    given.forEach((token) => console.log(token));
    console.log('end');
  }
}).on('close', () => process.exit(0));
