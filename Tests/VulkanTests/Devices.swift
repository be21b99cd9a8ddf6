import Compute
import ComputeCPU
import ComputeVulkan
import Foundation
import Imaging
import Rendering
import Testing

/// The devices of the tests: every Vulkan device of this machine that Tomos can use, under the validation layers.
enum Devices {
    static let instance: VulkanInstance? = (try? VulkanInstance(validation: .synchronisation)) ?? (try? VulkanInstance())
    /// A software driver where there is nothing else.
    static let index: Int? = instance?.devices.first { $0.refusal == nil }?.index
    static let isThere = index != nil
    static let isHardware = index.map { instance!.devices[$0].kind != .software } ?? false
    static let cpu = CPUDevice()
    static let vulkan = try! VulkanDevice(instance!, index: index!)

    /// The same as GPUs do it: volumes are textures, where a software driver reads storage images; uploads and copies have queues of their own.
    static let textures = try! fresh(readsTextures: true, isApart: true)

    static func fresh(budgetBytes: Int? = nil, readsTextures: Bool = false, isApart: Bool = false) throws -> VulkanDevice {
        try VulkanDevice(instance!, index: index!, budgetBytes: budgetBytes, readsTextures: readsTextures, isApart: isApart)
    }
}

/// How two pictures differ.
struct Difference {
    /// Of pixels: those whose channels differ by more than the tolerance.
    var outliers = 0
    var count = 0
    var largest = 0.0
    /// The first few outliers: column, row, and both values.
    var first: [String] = []

    /// Values by `tolerance` in their own unit; pictures by `tolerance` display levels.
    init(_ a: Raster, _ b: Raster, tolerance: Double) {
        count = a.size.count
        switch (a.pixels, b.pixels) {
        case (.values(let x), .values(let y)):
            for (p, (u, v)) in zip(x, y).enumerated() {
                let d = u == v || (u.isNaN && v.isNaN) ? 0 : Double(abs(u - v))
                if !(d <= tolerance) { note(p, u, v, a.size) }
                largest = max(largest, d.isNaN ? .infinity : d)
            }
        case (.grey(let x), .grey(let y)), (.rgb(let x), .rgb(let y)):
            let channels = x.count / count
            for p in 0..<count {
                let d = (0..<channels).map { abs(Int(x[p * channels + $0]) - Int(y[p * channels + $0])) }.max()!
                if Double(d) > tolerance { note(p, Array(x[p * channels..<(p + 1) * channels]), Array(y[p * channels..<(p + 1) * channels]), a.size) }
                largest = max(largest, Double(d))
            }
        default: outliers = count; largest = .infinity
        }
    }
    private mutating func note<T>(_ pixel: Int, _ expected: T, _ actual: T, _ size: PixelSize) {
        outliers += 1
        if first.count < 8 { first.append("(\(pixel % size.width), \(pixel / size.width)): \(expected) \(actual)") }
    }
}

/// The same request on both devices.
func compare(_ request: RenderRequest, tolerance: Double, on vulkan: VulkanDevice = Devices.vulkan) async throws -> (difference: Difference, expected: Raster, actual: Raster) {
    let expected = try await Renderer(device: Devices.cpu).render(request).raster
    let actual = try await Renderer(device: vulkan).render(request).raster
    return (Difference(expected, actual, tolerance: tolerance), expected, actual)
}
