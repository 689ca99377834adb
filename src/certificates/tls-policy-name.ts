/** Words of the policy of a listener, for its options and for what carries them out. */

/** The sets of Mozilla's guideline (Server Side TLS 5.7): every client of the last ten years, or TLS 1.3 alone. */
export type TlsPolicyName = 'intermediate' | 'modern'
/** Versions of TLS that are spoken, with clients and with origins. */
export type TlsVersion = 'TLSv1.2' | 'TLSv1.3'
