import ComputeVulkan
import Imaging
import Phantoms
import Rendering
import Testing

/// Every mode of the CPU renderer's golden images on both devices: within 2 display levels for 99.9 % of the pixels.
@Suite(.enabled(if: Devices.isThere)) struct GoldenParityTests {
    static let size = PixelSize(160, 160)
    static let volume = ThoraxPhantom(size: (192, 192, 112), seed: 1).volume()!
    static let companions = Exhibit.Companions(of: volume)!
    static let exhibits = Exhibit.all(of: volume, size: size)

    @Test(arguments: exhibits.indices) func everyModeLooksTheSame(index: Int) async throws {
        let exhibit = Self.exhibits[index]
        for device in [Devices.vulkan, Devices.textures] {
            let (difference, _, _) = try await compare(exhibit.request(Self.volume, Self.companions, size: Self.size), tolerance: 2, on: device)
            #expect(difference.outliers * 1000 <= difference.count, "\(exhibit.name): \(difference.outliers) of \(difference.count) pixels, up to \(difference.largest)")
        }
    }
}
