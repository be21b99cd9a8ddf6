import Geometry
import Imaging

extension Plane {
    /// `size` is the reduced size: a reduced pixel lies in the middle of the pixels it stands for.
    func section(size: PixelSize, reduction: Int) -> Section {
        // Directions that are at right angles within tolerance become exactly so.
        let right = self.right.normalized!
        let down = (self.down - right * self.down.dot(right)).normalized!
        let step = spacing * Double(reduction), shift = spacing * Double(reduction - 1) / 2
        return Section(path: .plane(Affine(x: right * step, y: down * step, z: right.cross(down), origin: origin + right * shift + down * shift)), size: size)
    }
}
