/// One kernel to run. A closed set: every device switches exhaustively, so a new kernel does not compile until all have it.
///
/// Dispatches are pure values in double precision, compiled from a scene without a device. They name volumes, label maps and
/// buffers by their index in the `Job` that carries them.
public enum Dispatch: Hashable, Sendable {
    /// Planes, slabs, curves and slices: values (or colours) of a picture.
    case march(March)
    /// Rays of a camera through a volume: values or colours of a picture.
    case rays(Rays)
    /// Window, polarity, palette, layers and segments: the picture.
    case present(Present)

    /// Index of the buffer it writes.
    public var target: Int {
        switch self {
        case .march(let march): march.target
        case .rays(let rays): rays.target
        case .present(let present): present.target
        }
    }
}
