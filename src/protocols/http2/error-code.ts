/** Why a stream or a connection ends, as RST_STREAM and GOAWAY say it (RFC 9113 7). */
export const ErrorCode = {
  NoError: 0, ProtocolError: 1, InternalError: 2, FlowControlError: 3, SettingsTimeout: 4, StreamClosed: 5, FrameSizeError: 6,
  RefusedStream: 7, Cancel: 8, CompressionError: 9, ConnectError: 10, EnhanceYourCalm: 11, InadequateSecurity: 12, Http11Required: 13,
} as const
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode]
