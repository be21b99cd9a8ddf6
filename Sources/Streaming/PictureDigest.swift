import Imaging

/// 128 bits that tell pictures apart, so that what is on a screen need not be kept. Keyed anew in every process: nobody can
/// make two pictures collide.
struct PictureDigest: Hashable, Sendable {
    private let first, second: Int

    init(_ raster: Raster) {
        func hash(_ salt: UInt8) -> Int {
            var hasher = Hasher()
            hasher.combine(salt)
            hasher.combine(raster.size)
            switch raster.pixels {
            case .grey(let bytes), .rgb(let bytes): bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
            case .values(let values): values.withUnsafeBytes { hasher.combine(bytes: $0) }
            }
            return hasher.finalize()
        }
        first = hash(1)
        second = hash(2)
    }
}
