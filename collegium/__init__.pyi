# Written by scripts/docs.

from collegium.api import distill as distill
from collegium.api import evaluate as evaluate
from collegium.api import execute as execute
from collegium.api import resume as resume
from collegium.config.run import Run as Run
from collegium.distiller import Distiller as Distiller
from collegium.distiller import DistillerOutputs as DistillerOutputs
from collegium.errors import CollegiumError as CollegiumError
from collegium.export.export import export_student as export_student
from collegium.export.predict import predict as predict
from collegium.methods.aekd import AEKD as AEKD
from collegium.methods.amtml import AMTML as AMTML
from collegium.methods.at import AT as AT
from collegium.methods.avg_mkd import AvgMKD as AvgMKD
from collegium.methods.ca_mkd import CAMKD as CAMKD
from collegium.methods.dist import DIST as DIST
from collegium.methods.dkd import DKD as DKD
from collegium.methods.ebkd import EBKD as EBKD
from collegium.methods.fitnets import FitNets as FitNets
from collegium.methods.fixed import Fixed as Fixed
from collegium.methods.fsp import FSP as FSP
from collegium.methods.gated import Gated as Gated
from collegium.methods.kd import KD as KD
from collegium.methods.logits import Logits as Logits
from collegium.methods.random import Random as Random
from collegium.methods.rkd import RKD as RKD
from collegium.methods.sp import SP as SP
from collegium.methods.vanilla import Vanilla as Vanilla
from collegium.objectives.objective import total as total
from collegium.records.run_folder import Record as Record
from collegium.teachers import LiveTeachers as LiveTeachers
from collegium.types import Dims as Dims
from collegium.types import Head as Head
from collegium.types import StudentOutputs as StudentOutputs
from collegium.types import TeacherOutputs as TeacherOutputs

__version__: str
__all__: list[str]
