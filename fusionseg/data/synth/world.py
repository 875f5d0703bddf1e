"""A world that rays can be cast into: what stands still in one scene, what moves in one small scene per mesh.

Moving meshes are never rebuilt: rays are turned into a mesh's own frame instead, at the time each ray is cast.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.open3d_import import import_open3d
from fusionseg.data.synth.ego import Ego
from fusionseg.data.synth.layout import Actor
from fusionseg.data.synth.mesh import Floats, Mesh, dot, join
from fusionseg.data.synth.scenes import build
from fusionseg.data.synth.spec import FRAME_S, Spec

ACTOR_RANGE_M = 130.0
SHADOW_RANGE_M = 70.0
_LEAVE_M = 0.02
"""How far off its surface a shadow ray starts."""
_SLACK_M = 0.01
"""What rounding may cost a ray that grazes an actor's ball."""


@dataclass(frozen=True, eq=False)
class Hits:
    """Where N rays end.

    Attributes:
        distance: (N,) float32 in lengths of the direction, inf where nothing is hit.
        triangle: (N,) int64 row of ``World.triangles``, -1 where nothing is hit.
        normal: (N, 3) float32 in the world.
        bary: (N, 2) float32 weights of the second and third corner.
        moving: (N,) bool.
    """

    distance: Floats
    triangle: NDArray[np.int64]
    normal: Floats
    bary: Floats
    moving: NDArray[np.bool_]


class World:
    """The world of a spec.

    Args:
        spec: what to build.
        threads: of the ray caster; 0 is its own choice. The answer does not depend on it.
    """

    def __init__(self, spec: Spec, threads: int = 0) -> None:
        self.spec = spec
        self._o3d = import_open3d()
        self._threads = threads
        self.layout = build(spec)
        self._statics = self._scene(self.layout.statics.corners)
        self._scenes: dict[int, tuple[Any, Floats, float]] = {}
        meshes = [mesh for actor in self.layout.actors for mesh in actor.meshes]
        starts = np.cumsum([len(self.layout.statics), *(len(mesh) for mesh in meshes)])
        self._first = dict(zip((id(mesh) for mesh in meshes), starts[:-1].tolist(), strict=True))
        self.triangles: Mesh = join([self.layout.statics, *meshes])
        self._ego = Ego(spec, self.layout)

    @cached_property
    def actors(self) -> tuple[Actor, ...]:
        """What moves."""
        return self.layout.actors

    def _scene(self, corners: Floats) -> Any:
        scene = self._o3d.t.geometry.RaycastingScene(nthreads=self._threads)
        vertices = np.ascontiguousarray(corners.reshape(-1, 3), dtype=np.float32)
        triangles = np.arange(len(vertices), dtype=np.uint32).reshape(-1, 3)
        core = self._o3d.core
        scene.add_triangles(core.Tensor(vertices), core.Tensor(triangles))
        return scene

    def _small_scene(self, mesh: Mesh) -> tuple[Any, Floats, float]:
        """Scene, centre and radius of a moving mesh; meshes that share corners share it."""
        key = id(mesh.corners)
        if key not in self._scenes:
            points = mesh.corners.reshape(-1, 3)
            centre = (points.min(axis=0) + points.max(axis=0)) / 2
            radius = float(np.sqrt(((points - centre) ** 2).sum(axis=1).max()))
            self._scenes[key] = self._scene(mesh.corners), centre, radius
        return self._scenes[key]

    def world_T_lidar(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 4, 4) poses of the LiDAR at times (N,)."""
        return self._ego.world_T_lidar(time_s)

    def frame_time_s(self, frame: int) -> float:
        """Time of the image and of the middle of the sweep of a frame."""
        return frame * FRAME_S

    def cast_statics(self, origins: Floats, directions: Floats) -> Hits:
        """Rays (N, 3), (N, 3) in the world against everything that stands still."""
        answer = self._cast(self._statics, origins, directions)
        triangle = answer["primitive_ids"].numpy().astype(np.int64)
        distance = answer["t_hit"].numpy()
        triangle[np.isinf(distance)] = -1
        return Hits(
            distance,
            triangle,
            answer["primitive_normals"].numpy(),
            answer["primitive_uvs"].numpy(),
            np.zeros(len(distance), dtype=bool),
        )

    def _cast(self, scene: Any, origins: Floats, directions: Floats) -> Any:
        return scene.cast_rays(self._rays(origins, directions), nthreads=self._threads)

    def _rays(self, origins: Floats, directions: Floats) -> Any:
        rays = np.empty((len(directions), 6), dtype=np.float32)
        rays[:, :3] = origins
        rays[:, 3:] = directions
        return self._o3d.core.Tensor(rays)

    def cast(
        self, origins: Floats, directions: Floats, time_s: float, offset_s: Floats | None = None, slack_m: float = 0.0
    ) -> Hits:
        """Rays against everything; unit directions.

        Args:
            origins: (N, 3) or (3,), metres in the world.
            directions: (N, 3).
            time_s: where the actors are.
            offset_s: (N,) when each ray is cast, relative to ``time_s``: the actors move on meanwhile.
            slack_m: how far the origins lie apart.
        """
        origins = np.broadcast_to(origins, directions.shape)
        hits = self.cast_statics(origins, directions)
        eye = origins[len(origins) // 2]
        for actor in self.actors:
            placed = actor.pose(time_s)
            if placed is None:
                continue
            position, heading = placed
            scene, centre, radius = self._small_scene(mesh := actor.mesh(time_s))
            rotation = _about_z(heading)
            to_centre = (position + rotation @ centre - eye).astype(np.float32)
            away = float(np.linalg.norm(to_centre))
            if away > ACTOR_RANGE_M:
                continue
            reach = radius + slack_m + (0.0 if offset_s is None else 0.06 * abs(actor.speed_mps))
            if away > reach:
                cosine = np.sqrt(1 - (reach / away) ** 2)
                rows = np.flatnonzero(directions @ (to_centre / away) > cosine)
            else:
                rows = np.arange(len(directions))
            if len(rows):
                shift = None if offset_s is None else offset_s[rows]
                self._merge(hits, rows, scene, mesh, (position, rotation), actor, origins, directions, shift)
        return hits

    def _merge(
        self,
        hits: Hits,
        rows: NDArray[np.intp],
        scene: Any,
        mesh: Mesh,
        pose: tuple[NDArray[np.float64], NDArray[np.float64]],
        actor: Actor,
        origins: Floats,
        directions: Floats,
        offset_s: Floats | None,
    ) -> None:
        """Rays in the mesh's own frame; the nearer of what they hit there and before stays."""
        position, rotation = pose
        local = (origins[rows] - position).astype(np.float32)
        if offset_s is not None:
            ahead = rotation[:, 0] * abs(actor.speed_mps)
            local -= offset_s[:, None] * ahead.astype(np.float32)
        turn = rotation.astype(np.float32)
        answer = self._cast(scene, local @ turn, directions[rows] @ turn)
        distance = answer["t_hit"].numpy()
        nearer = np.flatnonzero(distance < hits.distance[rows])
        chosen = rows[nearer]
        hits.distance[chosen] = distance[nearer]
        hits.triangle[chosen] = answer["primitive_ids"].numpy()[nearer].astype(np.int64) + self._first[id(mesh)]
        hits.normal[chosen] = answer["primitive_normals"].numpy()[nearer] @ turn.T
        hits.bary[chosen] = answer["primitive_uvs"].numpy()[nearer]
        hits.moving[chosen] = True

    def occluded(self, points: Floats, normals: Floats, directions: Floats, time_s: float) -> NDArray[np.bool_]:
        """Whether anything lies between points (N, 3) and a light far above.

        Args:
            points: metres in the world.
            normals: of the surfaces they lie on.
            directions: to the light, (3,) or (N, 3), of unit length, z > 0.
            time_s: where the actors are.
        """
        towards = np.broadcast_to(directions, points.shape).astype(np.float32)
        starts = points + np.float32(_LEAVE_M) * normals
        hidden: NDArray[np.bool_] = self._statics.test_occlusions(
            self._rays(starts, towards), nthreads=self._threads
        ).numpy()
        middle = self.world_T_lidar(np.array([time_s]))[0, :3, 3]
        x, z = np.ascontiguousarray(starts[:, 0]), np.ascontiguousarray(starts[:, 2])
        slope = np.abs(towards[:, 0]) / towards[:, 2]
        for actor in self.actors:
            placed = actor.pose(time_s)
            if placed is None or np.linalg.norm(placed[0] - middle) > SHADOW_RANGE_M:
                continue
            position, heading = placed
            scene, centre, radius = self._small_scene(actor.mesh(time_s))
            rotation = _about_z(heading)
            ball = (position + rotation @ centre).astype(np.float32)
            # by far most rays are above the actor's ball before they come to it: two coordinates tell
            top, reach = ball[2] + np.float32(radius + _SLACK_M), np.float32(radius + _SLACK_M)
            rows = np.flatnonzero((np.abs(x - ball[0]) < reach + slope * (top - z)) & ~hidden)
            offset = starts[rows] - ball
            along = dot(offset, towards[rows])
            # the ray passes the ball: no farther off its line than the radius, and not behind its start
            rows = rows[(dot(offset, offset) - along * along < radius * radius) & (along < radius)]
            if len(rows):
                turn = rotation.astype(np.float32)
                local = (starts[rows] - position).astype(np.float32) @ turn
                rays = self._rays(local, towards[rows] @ turn)
                hidden[rows] = scene.test_occlusions(rays, nthreads=self._threads).numpy()
        return hidden


def _about_z(yaw: float) -> NDArray[np.float64]:
    sin, cos = np.sin(yaw), np.cos(yaw)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
