/**
 * What a TLS connection says about the other side, and the two places where Node must be helped on the side of a
 * server: a certificate that is optional but bad, and trust in certificates that are not roots.
 */
import type { X509Certificate } from 'node:crypto';
import tls from 'node:tls';
import type { TlsMaterial } from './tlsmaterial.ts';
import type { TlsPolicySettings } from './tlspolicy.ts';

export type Peer =
  | { readonly state: 'absent' }
  | { readonly state: 'verified'; readonly certificate: X509Certificate }
  | { readonly state: 'refused'; readonly reason: string };

const NO_CERTIFICATE = 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE';

const peers = new WeakMap<tls.TLSSocket, Peer>();

/**
 * Only a `verified` certificate proves a name. With `trust_all` none is. What the first handshake proved holds as long as
 * the connection: to read the certificate for every frame took a twentieth of a backup.
 */
export function peerOf(socket: tls.TLSSocket): Peer {
  const known = peers.get(socket) ?? readPeer(socket);
  peers.set(socket, known);
  return known;
}

function readPeer(socket: tls.TLSSocket): Peer {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return { state: 'absent' };
  if (socket.authorized) return { state: 'verified', certificate };
  return { state: 'refused', reason: String(socket.authorizationError) };
}

/**
 * Closes connections whose certificate does not hold, before any request of them is read. With `client_auth=REQUIRE`
 * Node does so itself; with OPTIONAL it only notes it, while Neo4j lets nobody in with a certificate that it refuses.
 * @param refused is told why, in OpenSSL's words, whoever of the two refused; the client is told nothing but a reset
 */
export function guardPeers(
  server: tls.Server,
  settings: TlsPolicySettings,
  refused: (reason: string, socket: tls.TLSSocket) => void = () => undefined,
): void {
  server.prependListener('secureConnection', (socket: tls.TLSSocket) => {
    const peer = peerOf(socket);
    if (settings.trustAll || peer.state !== 'refused') return;
    refused(peer.reason, socket);
    socket.destroy();
  });
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: tls.TLSSocket) => {
    // Port scanners and plain HTTP come here as well, and are no matter of certificates.
    const isMissing = error.code === NO_CERTIFICATE;
    if (isMissing || socket.authorizationError)
      refused(String(isMissing ? NO_CERTIFICATE : socket.authorizationError), socket);
  });
}

/**
 * Gives a server, before it listens or while it runs, what was loaded; connections that exist are not touched.
 * `setSecureContext` of Node drops `allowPartialTrustChain` on its way (seen in 24 and 26), so the context that the
 * server hands to its connections is set a second time, whole. Were that field gone in another Node, leaves in
 * `trusted_dir` would be refused: the door stays shut, and a test says so.
 */
export function setServerMaterial(server: tls.Server, material: TlsMaterial): void {
  server.setSecureContext(material.secureContext);
  const holder = server as tls.Server & { _sharedCreds?: tls.SecureContext };
  holder._sharedCreds = tls.createSecureContext(material.secureContext);
}
